"""How long 10 simultaneous messages of one conversation take a real Agent.

    agent.py MODEL REDIS_PORT

Each message is 20 ms of work. Prints a JSON object with the seconds that it
took with Rasa's own store and with ours.
"""

import asyncio
import json
import logging
import sys
import time

from rasa.core.agent import Agent
from rasa.core.channels import CollectingOutputChannel, UserMessage
from rasa.core.lock_store import LockStore
from rasa.utils.endpoints import EndpointConfig
from rasa.utils.log_utils import configure_structlog

MESSAGES = 10
WORK = 0.02


class Slow(CollectingOutputChannel):
    """An answer takes its time, and the event loop is free meanwhile."""

    async def send_text_message(self, *arguments, **options) -> None:
        await asyncio.sleep(WORK)
        await super().send_text_message(*arguments, **options)


async def burst(agent: Agent, sender: str) -> float:
    async def say(text: str) -> None:
        message = UserMessage(text, Slow(), sender)
        await agent.handle_message(message)
        assert message.output_channel.messages, "no answer"

    await say("hello")  # what is done only once is not measured
    begun = time.perf_counter()
    await asyncio.gather(*(say("hello") for _ in range(MESSAGES)))
    return time.perf_counter() - begun


async def main(model: str, port: int) -> None:
    # As `rasa run` does; otherwise every step is printed.
    configure_structlog(logging.INFO)
    agent = Agent.load(model)
    seconds = {}
    for name, store_type in [
        ("rasa", "redis"),
        ("ours", "lock_store.rasa.RasaLockStore"),
    ]:
        endpoint = EndpointConfig(type=store_type, url="127.0.0.1", port=port)
        agent.lock_store = LockStore.create(endpoint)
        # The processor has one, too, for reminders.
        agent.processor.lock_store = agent.lock_store
        runs = [await burst(agent, f"{name}-{i}") for i in range(3)]
        seconds[name] = sorted(runs)[1]
    print(json.dumps(seconds))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
