"""A stand-in for S3 and for Google's storage: one bucket in each with the files of a folder.

It runs in a pod with the clients' image, by moto and gcp-storage-emulator: python3 buckets.py BUCKET PREFIX FOLDER. S3
is at port 8080, Google's storage at 8081; the first is open once both are filled.
"""

import sys
import threading
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import boto3
from gcp_storage_emulator.server import create_server
from moto.server import ThreadedMotoServer

S3, GOOGLE = 8080, 8081


def main() -> None:
    bucket, prefix, folder = sys.argv[1:]
    google = create_server("0.0.0.0", GOOGLE, in_memory=True, default_bucket=bucket)
    google.start()
    filling = ThreadedMotoServer("127.0.0.1", 0)
    filling.start()
    host, port = filling.get_host_and_port()
    keys = {"aws_access_key_id": "of-the-test", "aws_secret_access_key": "of-the-test"}
    s3 = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", **keys)
    s3.create_bucket(Bucket=bucket)
    for path in Path(folder).iterdir():
        if path.is_file():
            name = f"{prefix}/{path.name}"
            s3.upload_file(str(path), bucket, name)
            url = f"http://127.0.0.1:{GOOGLE}/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, '')}"
            urlopen(Request(url, path.read_bytes(), {"Content-Type": "application/octet-stream"}))
    # moto's servers of one process share what they hold
    ThreadedMotoServer("0.0.0.0", S3).start()
    threading.Event().wait()


if __name__ == "__main__":
    main()
