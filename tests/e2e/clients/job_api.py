"""One request to the job API: python job_api.py URL KEY [CONTENT]. POST with content, else GET; prints the response."""

import sys
import urllib.request

url, key, *content = sys.argv[1:]
request = urllib.request.Request(url, content[0].encode() if content else None, {"Authorization": f"Bearer {key}"})
print(urllib.request.urlopen(request, timeout=30).read().decode())
