"""Request an endpoint's models until it answers, for at least 20 seconds: python models.py URL KEY. Prints 200 then."""

import sys
import time
import urllib.request

url, key = sys.argv[1:]
request = urllib.request.Request(f"{url}/models", headers={"Authorization": f"Bearer {key}"})
for _ in range(100):
    try:
        print(urllib.request.urlopen(request, timeout=5).status)
        break
    except OSError:
        time.sleep(0.2)
