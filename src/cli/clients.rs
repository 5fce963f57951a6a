//! `maser clients`: its arguments, and what it does.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{CliError, json, print, socket, words};
use crate::status::{self, ClientsQuestion, Order, Surroundings, TOP_MAX};

/// `maser clients`.
#[derive(Clone, Debug, Args)]
pub struct ClientsArguments {
    /// How many addresses and how many prefixes; from 1 to 1000
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(TOP_MAX)))]
    pub top: u16,
    /// Both by requests a second or by kisses of death a second, lately; or addresses or prefixes alone, by requests since
    /// each is counted
    #[arg(long, short, value_name = "ORDER", default_value = Order::Rate.word(), value_parser = words::<Order>())]
    pub by: Order,
    /// Tell addresses as their /24 (IPv4) or /48 (IPv6) alone
    #[arg(long, short)]
    pub truncate: bool,
    /// The server's own answer, JSON, without interpretation
    #[arg(long)]
    pub json: bool,
    /// The server's status socket, if it isn't at a usual place
    #[arg(long, value_name = "PATH")]
    pub status_socket: Option<PathBuf>,
}

impl ClientsArguments {
    /// Asks the server and shows its heaviest clients.
    pub fn run(&self, surroundings: &Surroundings, out: &mut dyn Write) -> Result<(), CliError> {
        let path = socket(self.status_socket.as_deref(), surroundings)?;
        let question = ClientsQuestion { top: self.top, by: self.by, truncated: self.truncate };
        let clients = status::fetch_clients(&path, &question)?;
        let text = if self.json { json(&clients)? } else { status::clients_table(&clients) };
        print(out, &text)
    }
}
