//! The decisions beside the model: batches of units, whose COMMIT is lost or which are aborted, and messages that
//! people store and delete by hand between them.

use proptest::{collection::vec, option, prelude::*, sample::subsequence};
use uuid::Uuid;

use super::{
    model::{Model, ModelChat, ModelMessage, assert_agrees},
    table::{KeyedTable, TableRow},
};
use crate::{
    auth::Caller,
    domain::{
        JsonObject,
        message::{NewMessage, Role},
    },
    ledger::{
        Unit,
        database::{AppendedRows, LockWait},
        decide::{LockedSession, decide},
    },
};

/// Sessions 0 to 2 exist; the last is the user's of this number.
const SESSIONS: u128 = 4;
const OWNED: u128 = 2;
const IDS: u128 = 6;

#[derive(Clone, Debug)]
enum DecisionStep {
    Batch {
        units: Vec<UnitPlan>,
        end: TransactionEnd,
        waits: bool,
    },
    /// A message is stored by hand.
    ByHand(u128, u128),
    /// A message is deleted.
    Delete(u128, usize),
}

/// How a batch's transaction ends. Other than by COMMIT, it is run again.
#[derive(Clone, Copy, Debug)]
enum TransactionEnd {
    Commit,
    LostCommit,
    Abort,
}

#[derive(Clone, Debug)]
struct UnitPlan {
    session: u128,
    user: Option<u128>,
    ids: Vec<u128>,
    content: bool,
    expected_last_seq: Option<i64>,
}

fn steps() -> impl Strategy<Value = Vec<DecisionStep>> {
    let ids = subsequence((0..IDS).collect::<Vec<_>>(), 1..=3).prop_shuffle();
    let unit = (
        0..SESSIONS,
        option::weighted(0.2, OWNED..=OWNED + 1),
        ids,
        prop::bool::weighted(0.9),
        option::weighted(0.3, 0..6_i64),
    )
        .prop_map(|(session, user, ids, content, expected_last_seq)| UnitPlan {
            session,
            user,
            ids,
            content,
            expected_last_seq,
        });
    let end = prop_oneof![4 => Just(TransactionEnd::Commit), 1 => Just(TransactionEnd::LostCommit), 1 => Just(TransactionEnd::Abort)];
    let step = prop_oneof![
        6 => (vec(unit, 1..5), end, any::<bool>()).prop_map(|(units, end, waits)| DecisionStep::Batch { units, end, waits }),
        1 => (0..SESSIONS - 1, 0..IDS).prop_map(|(session, id)| DecisionStep::ByHand(session, id)),
        1 => (0..SESSIONS - 1, 0..4_usize).prop_map(|(session, place)| DecisionStep::Delete(session, place)),
    ];
    vec(step, 1..12)
}

impl UnitPlan {
    fn unit(&self) -> Unit {
        let messages = self.ids.iter().map(|&id| NewMessage {
            id: Uuid::from_u128(id),
            id_is_given: true,
            role: Role::User,
            content: self.content.to_string(),
            selected_text: None,
            metadata: JsonObject::default(),
            payload: None,
            citations: Vec::new(),
            created_at: None,
        });
        Unit {
            caller: Caller {
                end_user: self.user.map(Uuid::from_u128),
                ..Caller::local_service(None)
            },
            session_id: Uuid::from_u128(self.session),
            messages: messages.collect(),
            expected_last_seq: self.expected_last_seq,
        }
    }
}

/// The model and the table, side by side.
struct ModelCheck {
    model: Model,
    table: KeyedTable,
}

impl ModelCheck {
    fn new() -> ModelCheck {
        let (mut model, mut table) = (Model::default(), KeyedTable::default());
        for n in 0..SESSIONS - 1 {
            let id = Uuid::from_u128(n);
            let user_id = (n == OWNED).then_some(id);
            let session = LockedSession {
                tenant: "default".to_owned(),
                user_id,
                last_seq: 0,
            };
            table.sessions.insert(id, session);
            let chat = ModelChat {
                user_id,
                messages: Vec::new(),
            };
            model.chats.insert(id, chat);
        }
        ModelCheck { model, table }
    }

    fn step(&mut self, step: &DecisionStep) {
        match step {
            DecisionStep::Batch { units, end, waits } => {
                let units: Vec<Unit> = units.iter().map(UnitPlan::unit).collect();
                let units: Vec<&Unit> = units.iter().collect();
                let lock_wait = if *waits { LockWait::Wait } else { LockWait::Skip };
                match end {
                    TransactionEnd::Commit => {}
                    // It has happened, but nobody has heard.
                    TransactionEnd::LostCommit => {
                        for unit in &units {
                            let _ = self.model.append(unit);
                        }
                        self.run(&units, lock_wait, true);
                    }
                    TransactionEnd::Abort => drop(self.run(&units, lock_wait, false)),
                }
                let outcomes = self.run(&units, lock_wait, true);
                for (unit, outcome) in units.iter().zip(&outcomes) {
                    assert_agrees(outcome.as_ref(), &self.model.append(unit), lock_wait);
                }
            }
            DecisionStep::ByHand(session, id) => {
                self.store_by_hand(Uuid::from_u128(*session), Uuid::from_u128(*id));
            }
            DecisionStep::Delete(session, place) => {
                let session_id = Uuid::from_u128(*session);
                let chat = self.model.chats.get_mut(&session_id).expect("it exists");
                if let Some(message) = chat.messages.get_mut(*place) {
                    message.is_deleted = true;
                    let rows = self.table.rows.iter_mut();
                    rows.filter(|row| row.session_id == session_id && row.message_id == message.id)
                        .for_each(|row| row.is_deleted = true);
                }
            }
        }
        self.model.assert_is(&self.table);
    }

    fn run(
        &mut self,
        units: &[&Unit],
        lock_wait: LockWait,
        commits: bool,
    ) -> Vec<Option<crate::ledger::Outcome>> {
        let lookup = self.table.look_up(units);
        let decisions = decide(units, lock_wait, self.table.sessions.clone(), &lookup);
        if commits {
            let appended = self.table.insert(decisions.insertions());
            decisions.outcomes(&appended)
        } else {
            decisions.outcomes(&AppendedRows::default())
        }
    }

    /// With a seq that the counter hears of only when it is in the way.
    fn store_by_hand(&mut self, session_id: Uuid, id: Uuid) {
        if self.table.rows.iter().any(|row| row.id == id) {
            return;
        }
        let chat = self.model.chats.get_mut(&session_id).expect("it exists");
        if chat.messages.iter().any(|message| message.id == id) {
            return;
        }
        chat.messages.push(ModelMessage {
            id,
            content: "true".to_owned(),
            is_deleted: false,
        });
        let session = self.table.sessions.get_mut(&session_id).expect("it exists");
        session.last_seq += 1;
        self.table.rows.push(TableRow {
            id,
            session_id,
            message_id: id,
            seq: session.last_seq,
            content: "true".to_owned(),
            is_deleted: false,
        });
    }
}

proptest! {
    #[test]
    fn decisions_are_the_models(steps in steps()) {
        let mut check = ModelCheck::new();
        for step in &steps {
            check.step(step);
        }
    }
}
