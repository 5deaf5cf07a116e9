"""Asks the gateway whom a ticket stands for, as Python backends do: redeem.py <address> [<client id>].

A client's secret is in CLIENT_SECRET; a public client has none, and gives no id.
"""
import base64
import json
import os
import sys
import urllib.error
import urllib.request

request = urllib.request.Request(sys.argv[1])
if len(sys.argv) > 2:
    # At once: the gateway does not ask for it with a 401, which HTTPBasicAuthHandler would wait for.
    pair = '%s:%s' % (sys.argv[2], os.environ['CLIENT_SECRET'])
    request.add_header('Authorization', 'Basic ' + base64.b64encode(pair.encode()).decode())
try:
    with urllib.request.urlopen(request, timeout=10) as response:
        user = json.loads(response.read().decode('utf-8'))
except urllib.error.HTTPError as error:
    print(json.dumps({'status': error.code, 'body': error.read().decode()}))
else:
    print(json.dumps({'status': 200, 'url': response.geturl(), 'user': user}))
