//! The engines that the tests start are there when they say so, and gone when they are not needed any more.
#![cfg(unix)]

mod support;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use support::engines::{PostgresServer, RedisServer, signal};

/// How long something that must happen is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a line to Redis and reads the line that it answers, or nothing where it does not in a while.
fn ask(port: u16, line: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(300))).ok()?;
    stream.write_all(format!("{line}\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).ok()?;
    Some(answer.trim_end().to_owned())
}

fn is_there(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn redis_keeps_what_it_acknowledged_when_it_is_killed() {
    let redis = RedisServer::options().durable().start();
    assert_eq!(ask(redis.port(), "SET a 1").as_deref(), Some("+OK"));
    redis.kill();
    assert!(!is_there(redis.port()));
    redis.restart();
    assert_eq!(ask(redis.port(), "STRLEN a").as_deref(), Some(":1"));
}

#[test]
fn redis_answers_nothing_while_it_is_stopped() {
    let redis = RedisServer::start();
    redis.pause();
    assert_eq!(ask(redis.port(), "PING"), None);
    redis.resume();
    assert_eq!(ask(redis.port(), "PING").as_deref(), Some("+PONG"));
}

#[test]
fn redis_asks_for_its_password_and_takes_no_writes_where_it_is_told_so() {
    let redis = RedisServer::options().password("secret").start();
    assert!(redis.url().starts_with("redis://:secret@127.0.0.1:"));
    assert!(ask(redis.port(), "PING").is_some_and(|answer| answer.starts_with("-NOAUTH")));
    let redis = RedisServer::options().read_only().start();
    assert!(ask(redis.port(), "SET a 1").is_some_and(|answer| answer.starts_with("-READONLY")));
}

#[test]
fn postgres_comes_back_after_it_was_killed() {
    let postgres = PostgresServer::options().durable().password("secret").start();
    assert!(postgres.url().starts_with("postgres://postgres:secret@127.0.0.1:"));
    postgres.kill();
    assert!(!is_there(postgres.port()));
    postgres.restart();
    assert!(postgres.log().contains("not properly shut down"), "{}", postgres.log());
    postgres.pause();
    postgres.resume();
}

#[test]
fn a_server_ends_with_its_value_also_when_it_is_stopped() {
    let (redis, postgres) = (RedisServer::start(), PostgresServer::start());
    let ports = [redis.port(), postgres.port()];
    redis.pause();
    postgres.pause();
    drop((redis, postgres));
    assert!(!ports.into_iter().any(is_there));
}

/// The process that the next test kills.
#[test]
fn when_told_so_this_process_starts_servers_and_waits_for_its_end() {
    if std::env::var_os("TOWER_LOCK_ENGINES_CHILD").is_none() {
        return;
    }
    let (redis, postgres) = (RedisServer::start(), PostgresServer::shared());
    println!("\nports {} {}", redis.port(), postgres.port());
    _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn servers_end_when_the_process_that_started_them_is_killed() {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--nocapture", "when_told_so_this_process_starts_servers_and_waits_for_its_end"])
        .env("TOWER_LOCK_ENGINES_CHILD", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let lines = BufReader::new(child.stdout.take().expect("its output is ours")).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("ports ")).expect("it starts them");
    let ports: Vec<u16> = line.split(' ').skip(1).map(|port| port.parse().expect("a port")).collect();
    assert!(ports.len() == 2 && ports.iter().all(|port| is_there(*port)));
    signal("KILL", &[child.id()]);
    child.wait().expect("a child of ours");
    eventually("they end by themselves", || !ports.iter().any(|port| is_there(*port)));
}
