"""`chatledger schema` with the tools that it is for: SQLAlchemy, Alembic, and Prisma by way of Node."""

import datetime
import decimal
import json
import os
import pathlib
import shutil
import subprocess
import sys
import uuid

import pytest
from conftest import cargo_run

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tests" / "tools"
# Where the packages of tests/tools/package.json are, with node_modules in it.
NODE_DIR = os.environ.get("CHATLEDGER_NODE_DIR")

ENV_PY = """
from alembic import context
from sqlalchemy import create_engine
import chatledger_models

with create_engine(context.config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(connection=connection, target_metadata=chatledger_models.Base.metadata, {options})
    with context.begin_transaction():
        context.run_migrations()
"""
SCRIPT_MAKO = '''"""${message}"""
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}

def upgrade():
    ${upgrades if upgrades else "pass"}

def downgrade():
    ${downgrades if downgrades else "pass"}
'''


# What a team's own migrations may add, of every kind of type.
OWN_COLUMNS = """
CREATE TYPE mood AS ENUM ('good', 'bad');
ALTER TABLE messages ADD COLUMN language varchar(35) DEFAULT 'en', ADD COLUMN cost numeric(10, 4),
    ADD COLUMN tags text[] NOT NULL DEFAULT '{}', ADD COLUMN due date, ADD COLUMN rating smallint, ADD COLUMN ratio real,
    ADD COLUMN raw json, ADD COLUMN seen_at timestamp, ADD COLUMN mood mood, ADD COLUMN moods mood[];
UPDATE messages SET cost = 1.5, tags = '{a,b}', due = '2026-01-31', rating = 5, ratio = 0.5, raw = '[1]',
    seen_at = '2026-01-31 12:00', mood = 'good';
"""


@pytest.fixture(scope="module")
def url(server, data_dir):
    return (data_dir / "lock").read_text().strip()


@pytest.fixture(scope="module", autouse=True)
def own_columns(url, conversation):
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        db.execute(OWN_COLUMNS)


@pytest.fixture(scope="module")
def conversation(channel):
    """The id of a session of a user with a profile, with an answer that has two citations."""
    # The stubs are made when the tests begin.
    from chatledger.v1 import citation_pb2, message_pb2, message_pb2_grpc
    from chatledger.v1 import profile_pb2, session_pb2, session_pb2_grpc, user_pb2, user_pb2_grpc

    user = user_pb2_grpc.UserServiceStub(channel).CreateUser(
        user_pb2.CreateUserRequest(
            email=f"{uuid.uuid4()}@example.com", profile=profile_pb2.Profile(experience_level="beginner")
        )
    ).user
    session = session_pb2_grpc.SessionServiceStub(channel).CreateSession(
        session_pb2.CreateSessionRequest(user_id=user.id, title="ROS 2", metadata_json='{"chapter": 1}')
    ).session
    messages = [
        message_pb2.NewMessage(role=message_pb2.ROLE_USER, content="What is DDS?", selected_text="DDS"),
        message_pb2.NewMessage(
            role=message_pb2.ROLE_ASSISTANT,
            content="Middleware [1][2].",
            citations=[
                citation_pb2.Citation(document_id="module-1", chunk_id="c23", score=0.5),
                citation_pb2.Citation(document_id="module-2", chunk_id="c45", score=0.25),
            ],
        ),
    ]
    message_pb2_grpc.MessageServiceStub(channel).BatchAppendMessages(
        message_pb2.BatchAppendMessagesRequest(session_id=session.id, messages=messages)
    )
    return session.id


def schema(url, kind, path):
    """Writes the models of one kind to a file."""
    command = cargo_run(f"cargo run --release --quiet -- schema --format {kind}")
    subprocess.run([*command, "--output", str(path), "--database-url", url], cwd=ROOT, check=True)


@pytest.fixture(scope="module")
def models(url, tmp_path_factory):
    """The directory of the SQLAlchemy module."""
    folder = tmp_path_factory.mktemp("models")
    schema(url, "sqlalchemy", folder / "chatledger_models.py")
    return folder


def dialect(url):
    return url.replace("postgresql://", "postgresql+psycopg://")


def test_sqlalchemy_runs_a_joined_query(url, models, conversation, monkeypatch):
    monkeypatch.syspath_prepend(str(models))
    import chatledger_models as m
    from sqlalchemy import create_engine, func, select
    from sqlalchemy.orm import Session, configure_mappers, selectinload

    configure_mappers()
    with Session(create_engine(dialect(url))) as db:
        rows = db.execute(
            select(m.Message.seq, m.Message.content, func.count(m.MessageCitation.id))
            .join(m.Message.session)
            .outerjoin(m.Message.citations)
            .where(m.ChatSession.id == uuid.UUID(conversation))
            .group_by(m.Message.id)
            .order_by(m.Message.seq)
        ).all()
        assert rows == [(1, "What is DDS?", 0), (2, "Middleware [1][2].", 2)]

        loaded = selectinload(m.ChatSession.messages).selectinload(m.Message.citations)
        session = db.get(m.ChatSession, uuid.UUID(conversation), options=[loaded])
        assert session.metadata_ == {"chapter": 1}
        assert session.user.profile.experience_level == "beginner"
        own = session.messages[0]
        assert (own.language, own.cost, own.tags, own.due) == (
            "en",
            decimal.Decimal("1.5"),
            ["a", "b"],
            datetime.date(2026, 1, 31),
        )
        assert own.mood == "good"
        assert (own.rating, own.ratio, own.raw, own.seen_at) == (5, 0.5, [1], datetime.datetime(2026, 1, 31, 12))
        cited = [(c.citation_index, c.document_id, c.score) for c in session.messages[1].citations]
        assert cited == [(1, "module-1", 0.5), (2, "module-2", 0.25)]


def test_alembic_proposes_no_change(url, models, tmp_path):
    """With every comparison that it has, server defaults included; and a change of one's own is seen."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "script.py.mako").write_text(SCRIPT_MAKO)
    options = "compare_type=True, compare_server_default=True"
    (tmp_path / "env.py").write_text(ENV_PY.format(options=options))
    ini = tmp_path / "alembic.ini"
    address = dialect(url).replace("%", "%%")
    ini.write_text(f"[alembic]\nscript_location = {tmp_path}\nsqlalchemy.url = {address}\n")

    def check(path):
        env = os.environ | {"PYTHONPATH": str(path)}
        command = [sys.executable, "-m", "alembic", "-c", str(ini), "check"]
        return subprocess.run(command, env=env, capture_output=True, text=True)

    answer = check(models)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "No new upgrade operations detected" in answer.stdout
    assert "WARN" not in answer.stderr.upper(), answer.stderr

    changed = tmp_path / "changed"
    changed.mkdir()
    text = (models / "chatledger_models.py").read_text()
    column = "    title: Mapped[Optional[str]] = mapped_column(postgresql.TEXT())\n"
    assert column in text
    (changed / "chatledger_models.py").write_text(text.replace(column, "", 1))
    answer = check(changed)
    assert answer.returncode != 0 and "remove_column" in answer.stdout + answer.stderr


@pytest.mark.skipif(not NODE_DIR, reason="CHATLEDGER_NODE_DIR is not set")
def test_prisma_reads_a_conversation(url, conversation, tmp_path):
    for name in ("package.json", "prisma.config.ts", "conversation.cjs"):
        shutil.copy(TOOLS / name, tmp_path)
    shutil.copytree(pathlib.Path(NODE_DIR) / "node_modules", tmp_path / "node_modules", symlinks=True)
    schema(url, "prisma", tmp_path / "schema.prisma")
    # validate and generate never run the engine, but look for it, and would load it down.
    env = os.environ | {"PRISMA_SCHEMA_ENGINE_BINARY": shutil.which("true"), "CHECKPOINT_DISABLE": "1"}

    def run(*command):
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "is valid" in run("npx", "prisma", "validate")
    run("npx", "prisma", "generate")
    session = json.loads(run("node", "conversation.cjs", url, conversation))
    assert session["title"] == "ROS 2" and session["metadata"] == {"chapter": 1} and session["last_seq"] == 2
    assert session["user"]["profile"]["experience_level"] == "beginner"
    assert "hashed_password" not in session["user"]
    assert [message["content"] for message in session["messages"]] == ["What is DDS?", "Middleware [1][2]."]
    own = session["messages"][0]
    assert (own["language"], own["cost"], own["tags"], own["rating"], own["ratio"], own["raw"]) == (
        "en",
        "1.5",
        ["a", "b"],
        5,
        0.5,
        [1],
    )
    cited = [(c["citation_index"], c["document_id"], c["score"]) for c in session["messages"][1]["citations"]]
    assert cited == [(1, "module-1", 0.5), (2, "module-2", 0.25)]
