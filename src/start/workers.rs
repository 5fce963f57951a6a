//! The workers' threads: each makes its port on its own core, says that it is ready, and answers once it is let go.

use super::queues::{self, OwnedQueue};
use super::{ServeError, Threads, system};
use crate::access::Access;
use crate::clients::Clients;
use crate::config::{self, Config, Idle, PortChoice};
use crate::count::Counts;
use crate::nics::Nics;
use crate::port::Port;
use crate::port::ladder::Rung;
use crate::report::WorkerView;
use crate::sockets::Share;
use crate::splits::{SplitWatch, Splits};
use crate::worker::{Limits, Lists, Smearing, Worker, WorkerNic};
use core_affinity::CoreId;
use maser_sys::counter::Counter;
use maser_sys::mmsg::MmsgPort;
use maser_sys::snapshot_cell::Reader;
use maser_sys::uring::UringPort;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;
use tracing::warn;

/// What all workers have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) counter: Counter,
    pub(super) clients: Arc<Clients>,
    pub(super) snapshots: Reader,
    pub(super) smearing: Option<Smearing>,
    pub(super) nics: Vec<WorkerNic>,
    pub(super) batch: usize,
    pub(super) interleaved_clients: usize,
    pub(super) transmit_correction: bool,
    pub(super) limits: Option<Limits>,
    pub(super) lists: Lists,
}

impl Common {
    pub(super) fn new(
        config: &Config,
        counter: Counter,
        snapshots: &Reader,
        nics: &Nics,
        limits: Option<&Limits>,
        access: &Access,
    ) -> Self {
        let server = &config.server;
        Self {
            counter,
            clients: Clients::new(counter),
            snapshots: snapshots.clone(),
            smearing: super::smearing(config),
            nics: nics.for_worker(),
            batch: server.batch.get(),
            interleaved_clients: server.interleaved_clients,
            transmit_correction: server.transmit_correction,
            limits: limits.cloned(),
            lists: Lists { reader: access.reader(), deny_kiss: config.access.deny_kiss },
        }
    }
}

/// Where a worker's packets come in.
pub(super) enum Intake {
    /// A share of every address, on a port of the kernel's own stack.
    Sockets(Rung, Share),
    /// Queues of interfaces, and how clients are noticed that others answer, too.
    Queues(Vec<OwnedQueue>, Option<SplitWatch>),
}

/// What a worker thread takes with it.
pub(super) struct WorkerTask {
    pub(super) name: String,
    pub(super) core: usize,
    pub(super) intake: Intake,
    pub(super) idle: Idle,
    pub(super) common: Common,
}

/// What a worker thread says once: whether it is pinned, with its port and all its memory there.
struct Ready {
    worker: usize,
    pinned: Result<bool, ServeError>,
}

/// A worker thread's ends of the two channels to the one who starts it.
struct Starter {
    worker: usize,
    ready: Sender<Ready>,
    /// Closed without a word when the server doesn't come to serve.
    go: Receiver<()>,
    /// Ends it.
    stop: Arc<AtomicBool>,
}

/// All workers: those over queues, and those over sockets.
pub(super) fn tasks(
    server: &config::Server,
    rung: Rung,
    cores: &[usize],
    shares: Vec<(usize, Vec<OwnedQueue>)>,
    sockets: Vec<Share>,
    common: &Common,
) -> Vec<WorkerTask> {
    // Nobody polls a driver while its worker sleeps.
    let idle = if server.busy_poll { Idle::Spin } else { server.idle };
    let mut tasks = over_queues(idle, shares, common);
    tasks.extend(over_sockets(server.idle, rung, cores, sockets, &tasks, common));
    tasks
}

/// The workers over queues: one a core that owns any.
fn over_queues(idle: Idle, shares: Vec<(usize, Vec<OwnedQueue>)>, common: &Common) -> Vec<WorkerTask> {
    // One alone can't share a client with anybody.
    let splits = (shares.len() > 1).then(Splits::new);
    let task = |(worker, (core, queues)): (usize, (usize, Vec<OwnedQueue>))| WorkerTask {
        name: format!("xdp-{worker}"),
        core,
        intake: Intake::Queues(queues, splits.as_ref().map(|splits| splits.of_worker(worker))),
        idle,
        common: common.clone(),
    };
    shares.into_iter().enumerate().map(task).collect()
}

/// The workers over sockets: one a core. They never spin beside one of `others` on the same core.
fn over_sockets(
    idle: Idle,
    rung: Rung,
    cores: &[usize],
    sockets: Vec<Share>,
    others: &[WorkerTask],
    common: &Common,
) -> Vec<WorkerTask> {
    let task = |(worker, (&core, sockets))| WorkerTask {
        name: format!("worker-{worker}"),
        core,
        intake: Intake::Sockets(rung, sockets),
        idle: if others.iter().any(|other| other.core == core) { Idle::Block } else { idle },
        common: common.clone(),
    };
    cores.iter().zip(sockets).enumerate().map(task).collect()
}

impl Threads {
    /// Starts the workers, and the thread that counts their clients, and waits until each of them is ready;
    /// [`Threads::let_go`] makes them serve.
    pub(super) fn start_workers(
        &mut self,
        tasks: Vec<WorkerTask>,
        clients: &Arc<Clients>,
    ) -> Result<Vec<WorkerView>, ServeError> {
        let (clients, stop) = (Arc::clone(clients), Arc::clone(&self.stop_drivers));
        let counting = Builder::new().name("clients".into()).spawn(move || clients.run(&stop));
        self.keepers.push(("clients", counting.map_err(system("no thread that counts clients"))?));
        let (ready, all_ready) = channel();
        let mut views = Vec::with_capacity(tasks.len());
        for (worker, task) in tasks.into_iter().enumerate() {
            let (threads, stop) = match &task.intake {
                Intake::Sockets(..) => (&mut self.workers, Arc::clone(&self.stop_workers)),
                Intake::Queues(..) => (&mut self.queue_workers, Arc::clone(&self.stop_queues)),
            };
            let counts = Arc::<Counts>::default();
            views.push(task.view(Arc::clone(&counts)));
            let (go, let_go) = channel();
            self.waiting.push(go);
            let starter = Starter { worker, ready: ready.clone(), go: let_go, stop };
            let thread = Builder::new()
                .name(task.name.clone())
                .spawn(move || task.run(&counts, starter))
                .map_err(system("no thread for a worker"))?;
            threads.push(thread);
        }
        // So that the channel closes when the last worker has gone without a word.
        drop(ready);
        for _ in 0..views.len() {
            let Ready { worker, pinned } = all_ready.recv().map_err(|_| ServeError::Panicked("worker"))?;
            let view: &mut WorkerView = &mut views[worker];
            view.pinned = pinned?;
            if !view.pinned {
                warn!("{} could not be pinned to core {}", view.name, view.core);
            }
        }
        Ok(views)
    }

    /// Makes the workers serve that wait for it.
    pub(super) fn let_go(&mut self) {
        for waiting in self.waiting.drain(..) {
            // A worker that has ended meanwhile is noticed by whoever looks after the threads.
            let _heard = waiting.send(());
        }
    }
}

impl WorkerTask {
    fn view(&self, counts: Arc<Counts>) -> WorkerView {
        let (port, queues) = match &self.intake {
            Intake::Sockets(rung, _) => (rung.to_string(), Vec::new()),
            Intake::Queues(queues, _) => {
                let names = queues.iter().map(|queue| format!("{}:{}", queue.interface, queue.number));
                (PortChoice::AfXdp.word().to_owned(), names.collect())
            }
        };
        WorkerView { name: self.name.clone(), core: self.core, pinned: false, port, queues, counts }
    }

    /// The life of a worker thread. The port is made here: io_uring belongs to the thread that made it, and memory
    /// to the node of the core that touches it first.
    fn run(self, counts: &Counts, starter: Starter) -> Result<(), ServeError> {
        let Self { name, core, intake, idle, common } = self;
        let pinned = core_affinity::set_for_current(CoreId { id: core });
        let batch = common.batch;
        let life = Life { idle, common, counts, pinned, starter };
        let ended = match intake {
            Intake::Sockets(Rung::IoUring, Share { receiving, departing }) => {
                life.serve(UringPort::new(receiving, departing, batch).map_err(ServeError::from), None)
            }
            Intake::Sockets(Rung::Socket, Share { receiving, .. }) => {
                life.serve(MmsgPort::new(receiving, batch).map_err(system("no socket port")), None)
            }
            Intake::Queues(queues, splits) => life.serve(queues::port(queues, batch), splits),
        };
        ended.map_err(|error| ServeError::WorkerStopped { worker: name, error })
    }
}

/// A worker thread once it is on its core.
struct Life<'a> {
    idle: Idle,
    common: Common,
    counts: &'a Counts,
    pinned: bool,
    starter: Starter,
}

impl Life<'_> {
    /// Says that it is ready, or why it isn't, and answers from when it is let go until it is stopped. The word is said
    /// once and the channel closed with it, so that the one who waits learns of a worker that went without a word.
    fn serve(self, port: Result<impl Port, ServeError>, splits: Option<SplitWatch>) -> io::Result<()> {
        let Common {
            counter,
            clients,
            snapshots,
            smearing,
            nics,
            batch,
            interleaved_clients,
            transmit_correction,
            limits,
            lists,
        } = self.common;
        let Starter { worker, ready, go, stop } = self.starter;
        // All memory of the packet path is there before the word is said.
        let (pinned, serving) = match port {
            Ok(port) => {
                let serving = Worker::new(port, snapshots, counter, self.counts, batch);
                let key = RandomState::new().hash_one(0_u8);
                let serving = serving.smearing(smearing).noticing_splits(splits).believing(nics);
                let serving = serving.interleaving(interleaved_clients, key).correcting(transmit_correction);
                let serving = serving.telling(clients.tap()).limiting(limits).asked_by(lists);
                (Ok(self.pinned), Some(serving))
            }
            Err(error) => (Err(error), None),
        };
        // Nobody waits for it any more once starting has failed.
        let _heard = ready.send(Ready { worker, pinned });
        drop(ready);
        match serving {
            Some(mut serving) if go.recv().is_ok() => serving.run(self.idle, &stop),
            Some(_) | None => Ok(()),
        }
    }
}
