//! The people of the office at one application: holds, orders, approvals, openings, dispositions.

use core::time::Duration;
use std::path::Path;

use anyhow::Result;
use greffe_api::archive::RecordQuery;
use greffe_client::{ClientError, OrderRequest, OrderState, People, Person};
use greffe_types::{Digest, MatterId, OrderId};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::sleep;

use crate::ledger::{Hold, Order};
use crate::process::Life;
use crate::tenant;
use crate::user::{Shared, open};

/// Before something that failed is begun again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long an order stands.
const ORDER_FOR: Duration = Duration::from_secs(30 * 86_400);
const NAME: &str = "office";

/// What the office is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// Hold everything.
    Hold,
    /// Release a hold.
    Release([u8; 16], MatterId),
    /// Ask for records.
    Order(Vec<Digest>),
    /// Approve an order.
    Approve(OrderId, &'static str),
    /// Open what an order releases.
    Open(OrderId),
    /// Dispose of a record.
    Dispose(Digest),
    /// Deal the journaling key out to new shares.
    Reshare,
}

/// Runs until there is nobody who tells it anything.
pub(crate) fn live(base: &Path, shared: Shared, mut commands: UnboundedReceiver<Command>) -> Life {
    let base = base.to_owned();
    Box::pin(async move {
        let desk = loop {
            match desk(&base, &shared).await {
                Ok(desk) => break desk,
                Err(error) => shared
                    .trace
                    .note(NAME, format_args!("cannot open: {error:#}")),
            }
            sleep(PAUSE).await;
        };
        shared.trace.note(NAME, format_args!("is there"));
        while let Some(command) = commands.recv().await {
            let desk = desk.clone();
            tokio::spawn(async move {
                let (kind, outcome) = desk.obey(command).await;
                let done = outcome.unwrap_or_else(|error| error.reason().to_owned());
                desk.shared.trace.note(NAME, format_args!("{kind}: {done}"));
            });
        }
        Ok(())
    })
}

async fn desk(base: &Path, shared: &Shared) -> Result<Desk> {
    let client = open(base, NAME).await?;
    let people = tenant::PEOPLE
        .iter()
        .map(|(name, _)| {
            let person = Person::load(&tenant::person(base, name), name)?;
            Ok((*name, People::new(&client, person)))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Desk {
        people,
        shared: shared.clone(),
    })
}

#[derive(Clone)]
struct Desk {
    people: Vec<(&'static str, People)>,
    shared: Shared,
}

type Done = (&'static str, Result<String, ClientError>);

impl Desk {
    fn of(&self, name: &str) -> &People {
        let found = self.people.iter().find(|(known, _)| *known == name);
        &found.unwrap_or(&self.people[0]).1
    }

    async fn obey(&self, command: Command) -> Done {
        match command {
            Command::Hold => ("hold", self.hold().await),
            Command::Release(hold, matter) => ("release", self.release(&hold, &matter).await),
            Command::Order(records) => ("order", self.order(records).await),
            Command::Approve(order, who) => ("approve", self.approve(&order, who).await),
            Command::Open(order) => ("open", self.open(&order).await),
            Command::Dispose(record) => ("dispose", self.dispose(&record).await),
            Command::Reshare => ("reshare", Ok(self.reshare().await)),
        }
    }

    async fn hold(&self) -> Result<String, ClientError> {
        let legal = self.of("legal");
        let matter = legal.create_matter("a matter").await?;
        let everything = RecordQuery::default();
        let id = legal.place_hold(&matter, &everything, "asked for").await?;
        self.shared.ledger.told().holds.push(Hold {
            id,
            matter,
            ending: false,
        });
        Ok("stands".to_owned())
    }

    async fn release(&self, hold: &[u8; 16], matter: &MatterId) -> Result<String, ClientError> {
        for known in &mut self.shared.ledger.told().holds {
            if known.id == *hold {
                known.ending = true;
            }
        }
        let act = People::hold_release(hold, matter, "over");
        let acts = ["legal", "records"]
            .iter()
            .map(|who| self.of(who).sign_act("hold.release", &act))
            .collect::<Result<Vec<_>, _>>()?;
        self.of("legal").perform(acts).await?;
        Ok("released".to_owned())
    }

    async fn order(&self, records: Vec<Digest>) -> Result<String, ClientError> {
        let auditor = self.of("auditor");
        let matter = auditor.create_matter("another matter").await?;
        let info = auditor
            .request_order(OrderRequest {
                matter,
                purpose: "a question".to_owned(),
                records: records.clone(),
                reader: "reader".to_owned(),
                not_before: auditor.after(Duration::ZERO).minus(Duration::from_secs(60)),
                expiry: auditor.after(ORDER_FOR),
                seal_until: None,
            })
            .await?;
        self.shared.ledger.told().orders.push(Order {
            id: info.id,
            digest: info.order.digest(),
            records,
            approving: Default::default(),
        });
        Ok("filed".to_owned())
    }

    async fn approve(&self, order: &OrderId, who: &'static str) -> Result<String, ClientError> {
        for known in &mut self.shared.ledger.told().orders {
            if known.id == *order {
                known.approving.insert(who);
            }
        }
        let info = self.of(who).approve_order(order).await?;
        Ok(format!("{who}, now {:?}", info.state))
    }

    async fn open(&self, order: &OrderId) -> Result<String, ClientError> {
        let reader = self.of("reader");
        let mut opening = reader.open_order(order).await?;
        let mut opened = 0;
        let records = opening.all().await?;
        // Asked afterwards: the last approval may come in between, and no order is taken back to where it waits.
        let waits = match reader.order(order).await {
            Ok((info, _)) => !matches!(info.state, OrderState::Released | OrderState::Expired),
            Err(_) => false,
        };
        for record in records {
            let Ok(record) = record else {
                continue;
            };
            let text = String::from_utf8_lossy(&record.content.text).into_owned();
            let mut told = self.shared.ledger.told();
            if waits {
                told.broken
                    .push(format!("P5: {text:?} was opened before its order"));
            }
            told.opened.push((record.digest, text));
            opened += 1;
        }
        Ok(format!("{opened} opened"))
    }

    /// A node that is away, or forgets a session that was in its memory, ends it: another begins anew.
    async fn reshare(&self) -> String {
        match tenant::reshare(self.of("auditor").client()).await {
            Ok(()) => "shared anew".to_owned(),
            Err(_) => "not shared anew".to_owned(),
        }
    }

    async fn dispose(&self, record: &Digest) -> Result<String, ClientError> {
        self.shared
            .ledger
            .told()
            .disposals
            .entry(*record)
            .or_insert(false);
        let act = People::disposal(record, "its time is over");
        let acts = ["auditor", "records", "legal"]
            .iter()
            .map(|who| self.of(who).sign_act("record.dispose", &act))
            .collect::<Result<Vec<_>, _>>()?;
        self.of("auditor").perform(acts).await?;
        self.shared.ledger.told().disposals.insert(*record, true);
        Ok("decided".to_owned())
    }
}
