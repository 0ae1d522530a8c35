"""Verifies captured deliveries with the official Python library. Reads JSON lines, writes `ok` or `refused` each."""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

for line in sys.stdin:
    case = json.loads(line)
    try:
        Webhook(case["secret"]).verify(case["body"], case["headers"])
        print("ok")
    except (WebhookVerificationError, ValueError):  # the library lets base64's own error through
        print("refused")
