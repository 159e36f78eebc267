"""Receives the events that the server forwards (COGNIGY_FORWARD_URL), with FastAPI.

    WEBHOOK_SECRET=whsec_… PORT=9000 python receiver.py
"""

import os
import sys

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
app = FastAPI()

# The ids of the messages that were handled. A real receiver keeps them in its database, writes an id in
# the transaction that also does the work, and deletes ids that are a few days old.
handled: set[str] = set()


@app.post("/events")
async def receive(request: Request) -> Response:
    # The signature covers the bytes of the body, so they are verified before anything reads them. Let the
    # proxy in front of this program limit how long a body may be.
    body = await request.body()
    try:
        message = webhook.verify(body, dict(request.headers))
    except (WebhookVerificationError, ValueError) as error:
        # A ValueError: a header or the body is not even text. The server does not send a message again that
        # was answered with 401.
        raise HTTPException(401, "the signature is wrong or too old") from error

    # A message comes again if the answer to it was lost. It has the same id each time.
    message_id = request.headers["webhook-id"]
    if message_id in handled:
        print(f"{message_id} was handled before", flush=True)
        return Response(status_code=204)

    handle(message)
    handled.add(message_id)
    return Response(status_code=204)


def handle(message: dict) -> None:
    """Does the work. If it raises an exception, the answer is 500, and the message comes again."""
    data = message["data"]
    print(f"{message['type']} {data['event_id']} of {data['contact_key']}: {data['contact']}", flush=True)


if __name__ == "__main__":
    # Names and texts of any language can be printed, whatever the locale is.
    sys.stdout.reconfigure(encoding="utf-8")
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ.get("PORT", "9000")), log_level="warning")
