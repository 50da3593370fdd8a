"""Hands out tokens, by the calls that the service's quickstart makes, with the same arguments."""
# mypy: ignore-errors

import os

from dotenv import load_dotenv
from elevenlabs import ElevenLabs
from flask import Flask, jsonify

load_dotenv()
client = ElevenLabs(api_key=os.getenv("ELEVENLABS_API_KEY"))
app = Flask(__name__)


@app.route("/api/token")
def token():
    answer = client.conversational_ai.conversations.get_webrtc_token(
        agent_id="seng_0000000000000000000000000000"
    )
    return jsonify(token=answer.token)


app.run(port=3002)
