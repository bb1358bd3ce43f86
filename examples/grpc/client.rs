//! The client: `HOST USER METHOD DOCUMENT [TEXT] [TOKEN] [wait=SECONDS]`. Prints the answer, or what the refusal says.

use axum::http::{header, uri::PathAndQuery};
use base64::prelude::{BASE64_STANDARD, Engine};
use tonic::{Request, Status, transport::Channel};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;

use crate::messages::{Text, method};

pub(crate) async fn run(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [host, user, name, document, rest @ ..] = arguments else {
        return Err("client HOST USER get|save|erase|lock|unlock DOCUMENT [TEXT] [TOKEN] [wait=SECONDS]".into());
    };
    let method = match name.as_str() {
        "get" => method::GET,
        "save" => method::SAVE,
        "erase" => method::ERASE,
        "lock" => method::LOCK,
        "unlock" => method::UNLOCK,
        other => return Err(format!("{other} is no method").into()),
    };
    let mut request = Request::new(Text::new(rest.first().map_or("", String::as_str)));
    let metadata = request.metadata_mut();
    let credentials = BASE64_STANDARD.encode(format!("{user}:x"));
    metadata.insert(header::AUTHORIZATION.as_str(), format!("Basic {credentials}").parse()?);
    metadata.insert("document-id", document.parse()?);
    for more in rest.iter().skip(1) {
        match more.starts_with("wait=") {
            true => metadata.insert("prefer", more.parse()?),
            false => metadata.insert("lock-token", format!("<{more}>").parse()?),
        };
    }

    let mut client = tonic::client::Grpc::new(Channel::from_shared(host.clone())?.connect().await?);
    client.ready().await?;
    let answer: Result<tonic::Response<Text>, Status> =
        client.unary(request, PathAndQuery::from_static(method), ProstCodec::default()).await;
    match answer {
        Ok(answer) => println!("{}", answer.into_inner().text),
        Err(status) => println!("{}", told(&status)),
    }
    Ok(())
}

/// A refusal as a person reads it. The details are those of `google.rpc`, which clients in every language decode.
fn told(status: &Status) -> String {
    let mut told = format!("{:?}: {}", status.code(), status.message());
    let details = status.get_error_details();
    if let Some(info) = details.error_info() {
        let mut members: Vec<_> = info.metadata.iter().collect();
        members.sort();
        told += &format!("\n  {} of {}", info.reason, info.domain);
        for (name, value) in members {
            told += &format!("\n    {name}: {value}");
        }
    }
    for violation in details.precondition_failure().map_or(&[][..], |failure| &failure.violations) {
        told += &format!("\n  {} {}: {}", violation.r#type, violation.subject, violation.description);
    }
    for link in details.help().map_or(&[][..], |help| &help.links) {
        told += &format!("\n  see {}", link.url);
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        told += &format!("\n  try again in {} s", delay.as_secs());
    }
    told
}
