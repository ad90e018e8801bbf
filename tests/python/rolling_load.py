"""The load of test_rolling.py, a program of its own: what an application does, by the package and by plain gRPC.

Arguments: the target, and gRPC's service config for the plain client. It says `loaded` when all of it is at work, goes on until
its standard input ends, then compares what is stored with what was sent, and writes one document of JSON.
"""

import json
import sys
import threading
import uuid

import grpc

import chatledger
from chatledger.v1 import message_pb2, message_pb2_grpc

WRITERS = 3
# Between two calls of a client: the load is to be there all the time, and not to take both processors.
PAUSE = 0.004
# The last message that is watched.
END = "the end"


class Work:
    """One client, on a thread of its own."""

    def __init__(self, client, stop):
        self.client, self.stop = client, stop
        self.session = client.sessions.create().id
        self.sent, self.calls, self.failures, self.began = [], 0, [], threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.stop.wait(PAUSE):
            content = f"message {self.calls}"
            self.calls += 1
            try:
                self.call(content)
                self.sent.append(content)
            except (chatledger.ChatledgerError, grpc.RpcError, AssertionError) as error:
                self.failures.append(f"{type(self).__name__}: {error!r}")
            self.began.set()

    def finish(self):
        self.thread.join()

    def report(self):
        """What became of it. What has failed may be stored all the same, once."""
        stored = list(self.client.messages.list(self.session))
        contents = [message.content for message in stored]
        known = set(contents)
        return {
            "kind": type(self).__name__,
            "calls": self.calls,
            "failures": self.failures,
            "acknowledged": len(self.sent),
            "lost": len([content for content in self.sent if content not in known]),
            "doubled": len(contents) - len(known),
            "in_order": [content for content in contents if content in set(self.sent)] == self.sent,
            "gaps": [message.seq for message in stored] != list(range(1, len(stored) + 1)),
        }


class Unary(Work):
    def call(self, content):
        self.client.messages.append(self.session, "user", content)


class Reader(Work):
    """It appends, and reads all that it has appended so far."""

    def call(self, content):
        if self.calls % 5 == 0:
            self.client.messages.append(self.session, "user", content)
            return
        stored = [message.content for message in self.client.messages.list(self.session, limit=500)]
        assert stored == [text for text in self.sent if self.is_appended(text)][:500]

    @staticmethod
    def is_appended(content):
        return int(content.split()[1]) % 5 == 4

    def finish(self):
        super().finish()
        self.sent = [content for content in self.sent if self.is_appended(content)]


class Stream(Work):
    """The package's writer, whose stream is cut by each server that stops."""

    def run(self):
        futures = []
        with self.client.messages.writer() as writer:
            while not self.stop.wait(PAUSE):
                content = f"message {self.calls}"
                self.calls += 1
                futures.append((content, writer.append(self.session, "user", content)))
                self.began.set()
            writer.flush()
        for content, future in futures:
            error = future.exception()
            if error is None:
                self.sent.append(content)
            else:
                self.failures.append(f"Stream: {error}")


class Watched(Work):
    """It appends, and watches what it appends."""

    def __init__(self, client, stop):
        self.seen = []
        super().__init__(client, stop)
        self.watch = client.messages.watch(self.session)
        self.watching = threading.Thread(target=self.follow)
        self.watching.start()

    def call(self, content):
        self.client.messages.append(self.session, "user", content)

    def follow(self):
        for message in self.watch:
            self.seen.append(message.content)
            if message.content == END:
                return

    def finish(self):
        super().finish()
        self.client.messages.append(self.session, "user", END)
        self.sent.append(END)
        self.watching.join(timeout=20)
        if self.seen != self.sent:
            self.failures.append(f"Watched: {len(self.seen)} seen, and {len(self.sent)} sent")
        self.watch.close()


class Plain(Work):
    """gRPC without the package. It retries as the service config says."""

    options = ()

    def __init__(self, client, stop):
        self.channel = grpc.insecure_channel(sys.argv[1], options=self.options)
        self.stub = message_pb2_grpc.MessageServiceStub(self.channel)
        super().__init__(client, stop)

    def call(self, content):
        new = message_pb2.NewMessage(message_id=str(uuid.uuid4()), role=message_pb2.ROLE_USER, content=content)
        request = message_pb2.AppendMessageRequest(session_id=self.session, message=new)
        self.stub.AppendMessage(request, timeout=10)


class Configured(Plain):
    options = (("grpc.service_config", sys.argv[2]),)


class Unretried(Plain):
    """Nothing is tried again: what such a client sees is shown, and may fail."""

    options = (("grpc.enable_retries", 0),)


def main():
    stop = threading.Event()
    with chatledger.Client(sys.argv[1]) as client:
        kinds = [Unary] * WRITERS + [Reader, Stream, Watched, Configured, Unretried]
        works = [kind(client, stop) for kind in kinds]
        for work in works:
            assert work.began.wait(30), f"{type(work).__name__} doesn't begin"
        print("loaded", flush=True)
        sys.stdin.read()
        stop.set()
        for work in works:
            work.finish()
        print(json.dumps([work.report() for work in works]))


main()
