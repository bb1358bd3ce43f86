//! A handler behind the layer, the same handler without it, and a twin of the handler with nothing around it: what the twin
//! makes of the requests that ought to have been let through is what the first one should have come to.

use std::convert::Infallible;

use dav_server::{DavHandler, memfs::MemFs};
use tower_layer::Layer;
use tower_lock::{
    Access, AuthorizeAsk, DavLayer, Locks, MemoryStore, locks::LocksBuilder, store::ManualClock, webdav::RequestBody,
};

use super::{
    handler::{Handler, canonical},
    kit::{Answer, Client, Dav, Sent, sender},
    oracle::{Node, Tree, Who},
    shape::Shape,
    steps::{Reading, Step},
    xml::Found,
};
use crate::support;

pub(crate) struct Site {
    /// Through the layer.
    clients: Vec<(Who, Client)>,
    /// Past it.
    pub(crate) bare: Client,
    pub(crate) twin: Client,
    pub(crate) locks: Locks,
    pub(crate) clock: ManualClock,
    pub(crate) memory: MemoryStore,
    pub(crate) reading: Reading,
    /// Ours, with its record of requests, and its twin.
    ours: Option<(Handler, Handler)>,
}

/// Sees all locks, whoever holds them, and holds none.
pub(crate) const ALL_SEEING: Who = Some("eve");

const COLOUR: &str = "<D:propfind xmlns:D=\"DAV:\"><D:prop><D:resourcetype/><D:getetag/><Z:colour xmlns:Z=\"urn:z\"/>\
                      </D:prop></D:propfind>";

fn policy(builder: LocksBuilder) -> LocksBuilder {
    builder.allow_anonymous().authorizer(|_: &AuthorizeAsk<'_>| Access::Allowed)
}

const ALL: [Who; 5] = [Some("ann"), Some("bob"), Some("cat"), None, ALL_SEEING];

impl Site {
    /// Over the handler of these tests.
    pub(crate) fn ours() -> Self {
        let dav = Dav::with(Shape::default(), policy);
        let twin = Handler::new(Shape::default());
        twin.plant(["/a", "/b", "/c/", "/c/m", "/c/d/", "/c/d/n", "/e/"]);
        let clients = ALL.map(|who| (who, who.map_or_else(|| dav.anonymous(), |who| dav.as_(who))));
        Self {
            clients: clients.into(),
            bare: Client::through(sender(dav.handler.clone()), None),
            twin: Client::through(sender(twin.clone()), None),
            locks: dav.locks.clone(),
            clock: dav.clock.clone(),
            memory: dav.memory.clone(),
            reading: Reading::Lax,
            ours: Some((dav.handler.clone(), twin)),
        }
    }

    /// Over another one.
    pub(crate) async fn memfs() -> Self {
        let bare = |handler: DavHandler| {
            let service = tower::service_fn(move |request: http::Request<Sent>| {
                let handler = handler.clone();
                async move { Ok::<_, Infallible>(handler.handle(request).await) }
            });
            Client::through(sender(service), None)
        };
        let handler = DavHandler::builder().filesystem(MemFs::new()).build_handler();
        let inner = handler.clone();
        let inner = tower::service_fn(move |request: http::Request<RequestBody<Sent>>| {
            let handler = inner.clone();
            async move { Ok::<_, Infallible>(handler.handle(request).await) }
        });
        let clock = ManualClock::new();
        let memory = support::stores::memory(clock.clock());
        let locks = policy(support::locks_of_users(memory.clone())).build();
        let send = sender(DavLayer::new(locks.clone()).layer(inner));
        let twin = DavHandler::builder().filesystem(MemFs::new()).build_handler();
        let site = Self {
            clients: ALL.map(|who| (who, Client::through(send.clone(), who))).into(),
            bare: bare(handler),
            twin: bare(twin),
            locks,
            clock,
            memory,
            reading: Reading::Strict,
            ours: None,
        };
        for client in [&site.bare, &site.twin] {
            for collection in ["/c/", "/c/d/", "/e/"] {
                client.mkcol(collection).expect(201).await;
            }
            for document in ["/a", "/b", "/c/m", "/c/d/n"] {
                client.put(document, document).expect(201).await;
            }
        }
        site
    }

    pub(crate) fn as_(&self, who: Who) -> &Client {
        &self.clients.iter().find(|(name, _)| *name == who).expect("a client").1
    }

    pub(crate) async fn send(&self, step: &Step) -> Answer {
        let mut ask = self.as_(step.who).ask(step.method, &step.target).body(&step.body);
        for (name, value) in step.headers() {
            ask = ask.header(name, &value);
        }
        ask.await
    }

    /// The same request without anything of locks.
    pub(crate) async fn send_plain(&self, client: &Client, step: &Step) -> Answer {
        let mut ask = client.ask(step.method, &step.target).body(&step.body);
        for (name, value) in step.headers() {
            if !matches!(name, "if" | "lock-token" | "timeout") {
                ask = ask.header(name, &value);
            }
        }
        ask.await
    }

    /// The writes that reached the handler since this was last asked.
    pub(crate) fn take_writes(&self) -> Vec<String> {
        self.ours
            .as_ref()
            .map(|(handler, twin)| {
                twin.take_seen();
                handler.take_writes()
            })
            .unwrap_or_default()
    }

    /// All there is behind the layer.
    pub(crate) async fn tree(&self) -> Tree {
        match &self.ours {
            Some((handler, _)) => plain(handler),
            None => walk(&self.bare).await,
        }
    }

    /// The same of the twin.
    pub(crate) async fn twin_tree(&self) -> Tree {
        match &self.ours {
            Some((_, twin)) => plain(twin),
            None => walk(&self.twin).await,
        }
    }

    /// Whether they are the same; entity tags that come from the time of day are not compared.
    pub(crate) fn comparable(&self, mut tree: Tree) -> Tree {
        if self.ours.is_none() {
            tree.values_mut().for_each(|node| node.etag = None);
        }
        tree
    }
}

fn plain(handler: &Handler) -> Tree {
    let colour = (String::from("urn:z"), String::from("colour"));
    let nodes = handler.tree().into_iter().map(|(path, resource)| {
        let content = resource.content.map(|content| String::from_utf8(content.to_vec()).expect("text"));
        (path, Node { content, etag: resource.etag, colour: resource.props.get(&colour).cloned() })
    });
    nodes.collect()
}

/// One level at once: that is how far everybody lists.
async fn walk(client: &Client) -> Tree {
    let (mut tree, mut open) = (Tree::new(), vec![String::from("/")]);
    while let Some(collection) = open.pop() {
        let listed = client.ask("PROPFIND", &collection).depth("1").body(COLOUR).expect(207).await;
        let found = Found::of(&listed.xml());
        for href in found.hrefs() {
            let is_collection = href.ends_with('/');
            if is_collection && href != collection {
                open.push(href.to_owned());
                continue;
            }
            let (_, properties) = found.0.iter().find(|(found, _)| found == href).expect("itself");
            let colour = properties.iter().find(|(status, property)| *status == 200 && property.name == "{urn:z}colour");
            // As HEAD has it; a collection has none there, and one without quotes elsewhere.
            let head = client.ask("HEAD", href).await;
            let etag = head.headers.get("etag").filter(|_| head.status == 200);
            let etag = etag.map(|etag| etag.to_str().expect("text").to_owned());
            let content = if is_collection { None } else { Some(client.get(href).expect(200).await.text) };
            let colour = colour.map(|(_, property)| property.text.clone());
            tree.insert(canonical(href), Node { content, etag, colour });
        }
    }
    tree
}
