"""A RAG chatbot's loop: questions about a small corpus, with what the reader had selected, and cited answers.

    python examples/rag_chatbot.py "How do nodes talk?" --selected "ROS 2 uses DDS for communication"
    python examples/rag_chatbot.py                     # asks for questions, until an empty line or the end

Retrieval is BM25. The "model" puts the best passages together, so that nothing has to be downloaded or paid for:
put yours where ``answer`` is. Needs a server at CHATLEDGER_TARGET, or starts one of its own with ``--demo``.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import math
import re

import chatledger
import chatledger.testing


@dataclasses.dataclass(frozen=True)
class Chunk:
    document_id: str
    chunk_id: str
    text: str


DOCUMENTS = {"module-1-ros2": "Module 1: ROS 2", "module-2-gazebo": "Module 2: Gazebo", "module-3-vla": "Module 3: VLA"}
CORPUS = [
    Chunk("module-1-ros2", "chunk_001", "ROS 2 is a set of libraries and tools for building robot applications."),
    Chunk("module-1-ros2", "chunk_002", "ROS 2 uses DDS for communication. DDS delivers messages between nodes."),
    Chunk("module-1-ros2", "chunk_003", "A node publishes messages on a topic, and other nodes subscribe to it."),
    Chunk("module-1-ros2", "chunk_004", "Quality of service settings say whether DDS may lose messages."),
    Chunk("module-2-gazebo", "chunk_001", "Gazebo simulates robots, their sensors and the world around them."),
    Chunk("module-2-gazebo", "chunk_002", "A bridge carries messages between Gazebo topics and ROS 2 topics."),
    Chunk("module-3-vla", "chunk_001", "A vision-language-action model turns camera images and words into motion."),
]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


class Bm25:
    """Okapi BM25, with its usual constants."""

    def __init__(self, chunks: list[Chunk], k1: float = 1.5, b: float = 0.75) -> None:
        self.chunks, self.k1, self.b = chunks, k1, b
        self.counts = [collections.Counter(words(chunk.text)) for chunk in chunks]
        self.lengths = [sum(counts.values()) for counts in self.counts]
        self.mean = sum(self.lengths) / len(chunks)
        found = collections.Counter(word for counts in self.counts for word in counts)
        self.idf = {w: math.log(1 + (len(chunks) - n + 0.5) / (n + 0.5)) for w, n in found.items()}

    def search(self, query: str, count: int) -> list[tuple[float, Chunk]]:
        scored = [(self._score(query, n), chunk) for n, chunk in enumerate(self.chunks)]
        return sorted((each for each in scored if each[0] > 0), key=lambda each: -each[0])[:count]

    def _score(self, query: str, n: int) -> float:
        norm = self.k1 * (1 - self.b + self.b * self.lengths[n] / self.mean)
        counts = self.counts[n]
        return sum(self.idf[w] * counts[w] * (self.k1 + 1) / (counts[w] + norm) for w in words(query) if counts[w])


def answer(passages: list[tuple[float, Chunk]], history: list[chatledger.Message]) -> str:
    """The answer that a model would give, by the passages and the conversation so far."""
    if not passages:
        return "The book doesn't say."
    return " ".join(f"{chunk.text} [{number}]" for number, (_, chunk) in enumerate(passages, 1))


def turn(client: chatledger.Client, session_id: str, index: Bm25, question: str, selected: str | None) -> None:
    client.messages.append(session_id, "user", question, selected_text=selected)
    # The last 20 messages, oldest first, fit into a prompt.
    history = client.messages.last(session_id, 20)
    passages = index.search(f"{question} {selected or ''}", 2)
    citations = [chatledger.Citation(c.document_id, c.chunk_id, round(score, 3)) for score, c in passages]
    client.messages.append(
        session_id,
        "assistant",
        answer(passages, history),
        citations=citations,
        metadata={"model": "extractive", "retriever": "bm25"},
    )


def show(client: chatledger.Client, session_id: str) -> None:
    for message in client.messages.list(session_id):
        if message.selected_text:
            print(f"      > {message.selected_text}")
        print(f"{message.seq:4}  {message.role}: {message.content}")
        for citation in message.citations:
            title = DOCUMENTS[citation.document_id]
            print(f"      [{citation.citation_index}] {title}, {citation.chunk_id} ({citation.score})")


def ask() -> str:
    """A question, or nothing at the end of the input."""
    try:
        return input("? ").strip()
    except EOFError:
        print()
        return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="*", help="what to ask; without any, you are asked for them")
    parser.add_argument("--selected", help="the passage that the reader had selected")
    parser.add_argument("--demo", action="store_true", help="start a server for this run")
    given = parser.parse_args()
    index = Bm25(CORPUS)
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(chatledger.testing.server()).target if given.demo else None
        client = stack.enter_context(chatledger.Client(target))
        for document_id, title in DOCUMENTS.items():
            client.documents.upsert(document_id, title=title)
        session = client.sessions.create(title="The robotics book")
        if given.question:
            for question in given.question:
                turn(client, session.id, index, question, given.selected)
            show(client, session.id)
            return
        while question := ask():
            turn(client, session.id, index, question, given.selected)
            print(client.messages.last(session.id, 1)[0].content)


if __name__ == "__main__":
    main()
