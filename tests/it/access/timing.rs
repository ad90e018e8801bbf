//! The time of a refusal: what is somebody else's takes as long as what isn't there. Two samples, taken in turns, are compared by
//! the ranks of their times (Mann and Whitney): no clock's or machine's speed is in that, only whether one of the two tends to be
//! slower. It has the machine to itself (.config/nextest.toml).

use std::time::{Duration, Instant};

use prost::Message as _;
use serde_json::json;

use super::{
    matrix::{Belongings, Matrix, MatrixCaller},
    requests::{MethodRequest, REQUESTS},
    world::*,
};
use crate::harness::pb;

/// The pairs of calls of each method.
const PAIRS: usize = 400;
/// How far the ranks may be from what chance makes of equal times, in standard deviations: one run of ten million is farther.
const FARTHEST: f64 = 5.5;

/// How much slower the first sample tends to be, in standard deviations of what chance would make of it.
fn rank_difference(first: &[Duration], second: &[Duration]) -> f64 {
    let mut all: Vec<(Duration, bool)> = first.iter().map(|time| (*time, true)).collect();
    all.extend(second.iter().map(|time| (*time, false)));
    all.sort_unstable();
    let ranks = all.iter().zip(1_u32..).filter(|((_, is_first), _)| *is_first);
    let sum: f64 = ranks.map(|(_, rank)| f64::from(rank)).sum();
    let count = |sample: &[Duration]| f64::from(u32::try_from(sample.len()).expect("a few"));
    let (n, m) = (count(first), count(second));
    let expected = n * (n + m + 1.0) / 2.0;
    let deviation = (n * m * (n + m + 1.0) / 12.0).sqrt();
    (sum - expected) / deviation
}

async fn timed(matrix: &Matrix, caller: &MatrixCaller, request: &MethodRequest, of: &Belongings) -> Duration {
    let began = Instant::now();
    let answer = matrix.call(caller, request, of).await;
    let took = began.elapsed();
    assert!(answer.is_refusal(), "{}", request.path);
    took
}

#[tokio::test]
async fn what_is_somebody_else_s_takes_as_long_as_what_is_not_there() {
    let matrix = Matrix::direct().await;
    let (of, other) = (matrix.belongings().await, matrix.belongings().await);
    let stranger = MatrixCaller::with("another user", &token(&other.user_id, json!({"tenant": "acme"})));
    for method in [
        "GetSession",
        "GetMessage",
        "AppendMessage",
        "UpdateSession",
        "GetUser",
    ] {
        let request = REQUESTS
            .iter()
            .find(|request| request.path.ends_with(&format!("/{method}")));
        let request = request.expect("a request");
        let (mut foreign, mut absent) = (Vec::new(), Vec::new());
        for pair in 0..PAIRS {
            let ghost = Belongings::of_a_ghost();
            // In turns, and each as often the first of the two.
            if pair % 2 == 0 {
                foreign.push(timed(&matrix, &stranger, request, &of).await);
                absent.push(timed(&matrix, &stranger, request, &ghost).await);
            } else {
                absent.push(timed(&matrix, &stranger, request, &ghost).await);
                foreign.push(timed(&matrix, &stranger, request, &of).await);
            }
        }
        let difference = rank_difference(&foreign, &absent);
        assert!(
            difference.abs() < FARTHEST,
            "{method}: {difference:.1} standard deviations"
        );
    }
}

/// The rounds of sign-ins, each of which takes a second.
const SIGN_INS: usize = 25;

#[tokio::test]
async fn a_wrong_password_takes_as_long_as_an_email_that_nobody_has() {
    let matrix = Matrix::direct().await;
    let of = matrix.belongings().await;
    let service = key(&matrix.database, "acme", &["users"]).await;
    let caller = MatrixCaller::with("a service", &service);
    let request = MethodRequest {
        path: "/chatledger.v1.UserService/VerifyPassword",
        make: |of| {
            let password = "not the owner's password".to_owned();
            let email = of.email.clone();
            pb::VerifyPasswordRequest { email, password }.encode_to_vec()
        },
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for round in 0..SIGN_INS {
        let ghost = Belongings::of_a_ghost();
        // Side by side, and each as often the first of the two.
        let (first, second) = if round % 2 == 0 {
            (&of, &ghost)
        } else {
            (&ghost, &of)
        };
        let (first, second) = tokio::join!(
            timed(&matrix, &caller, &request, first),
            timed(&matrix, &caller, &request, second)
        );
        let (of_known, of_unknown) = if round % 2 == 0 {
            (first, second)
        } else {
            (second, first)
        };
        known.push(of_known);
        unknown.push(of_unknown);
    }
    let difference = rank_difference(&known, &unknown);
    assert!(difference.abs() < FARTHEST, "{difference:.1} standard deviations");
}

#[test]
fn the_comparison_sees_what_is_slower() {
    let sample = |from: u64| {
        (0..400)
            .map(|n| Duration::from_micros(from + n * 7 % 100))
            .collect::<Vec<_>>()
    };
    assert!(rank_difference(&sample(500), &sample(500)).abs() < 1.0);
    assert!(rank_difference(&sample(520), &sample(500)) > FARTHEST);
    assert!(rank_difference(&sample(500), &sample(520)) < -FARTHEST);
}
