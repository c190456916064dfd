"""The kitchen: it takes a second to write something down.

A message that comes in that second must wait. If it did not, it would not see
what was written, and the order would lose an item.
"""

import asyncio
from typing import Any

from rasa_sdk import Action, Tracker
from rasa_sdk.events import SlotSet
from rasa_sdk.executor import CollectingDispatcher


class ActionAdd(Action):
    def name(self) -> str:
        return "action_add"

    async def run(
        self, dispatcher: CollectingDispatcher, tracker: Tracker, domain: Any
    ) -> list[Any]:
        item = tracker.latest_message["text"].removeprefix("add ")
        order = [*(tracker.get_slot("order") or []), item]
        await asyncio.sleep(1)
        dispatcher.utter_message(text=f"Your order: {', '.join(order)}")
        return [SlotSet("order", order)]
