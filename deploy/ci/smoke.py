"""Send the example of its documentation to a running service; exit with 1 unless it is answered.

python smoke.py http://127.0.0.1:8000   (the key in SMOKE_KEY, where the service has keys)
"""

import json
import os
import sys
import urllib.request


def request_json(url: str, body: object = None) -> dict:
    """Return the answer of a service as JSON."""
    headers = {"content-type": "application/json", "x-api-key": os.environ.get("SMOKE_KEY", "")}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as answer:
        return json.load(answer)


address = sys.argv[1].rstrip("/")
operation = request_json(f"{address}/openapi.json")["paths"]["/predict"]["post"]
example = operation["requestBody"]["content"]["application/json"]["example"]
answer = request_json(f"{address}/predict", example)
print(json.dumps(answer))
