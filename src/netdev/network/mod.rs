//! The network of one machine: its backends, its NICs, and who is joined with whom.
//!
//! `machine` makes it and adds the ends of the command line; the monitor adds, removes, asks and sets links
//! while the guest runs. Ports know nothing of the network and never call it.
//!
//! A cable has a user, which named the other end (a NIC by `netdev=`), and that other end, which is in use.
//!
//! Lock order: `changing` (held over a whole change, with its calls of ports) before `ends` (held for moments).

mod cable;
mod ends;
mod faults;
mod snapshot;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use cable::{Branch, BranchPort, Filter};
pub use faults::FaultSnapshot;
pub use snapshot::{EndSnapshot, Snapshot};

use super::filter::{self, FilterError};
use super::hub::Hubs;
use super::{Backend, NetdevError, NetdevEvents, Surroundings, open, socket};
pub use crate::cli::FilterPlace as Place;
use crate::cli::{FilterOptions, Netdev, NetdevKind, SocketChardev};
use crate::event::EventError;
use crate::netport::FramePort;
use cable::Side;
use ends::{
    End, What, branch_name, chardev_name, check_branch, check_free, check_hubs, free_name, peer_of, position,
};
use faults::Flap;

/// Why the network could not be changed. Names stand as the user knows them.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The backend could not be opened.
    #[error(transparent)]
    Open(#[from] NetdevError),
    /// The filter could not be made.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// No backend has this id.
    #[error("there is no netdev '{0}'")]
    NoNetdev(String),
    /// No NIC has this name.
    #[error("there is no NIC '{0}'")]
    NoNic(String),
    /// Neither a NIC nor a backend has this name.
    #[error("there is no NIC and no netdev '{0}'")]
    NoSuchName(String),
    /// No filter has this id.
    #[error("there is no filter '{0}'")]
    NoFilter(String),
    /// No fault has this id.
    #[error("there is no fault '{0}'")]
    NoFault(String),
    /// The host gives no timer.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The name is another's.
    #[error("the id '{0}' is taken")]
    Taken(String),
    /// `indev=` or `outdev=` names nothing.
    #[error("there is no chardev and no netdev '{0}'")]
    NoBranchEnd(String),
    /// Frames that leave a filter could come back into it.
    #[error("{key}={to}: frames may come back by it and go round for ever; name a chardev or another netdev")]
    BranchLoop {
        /// The key.
        key: &'static str,
        /// The netdev that it names.
        to: String,
    },
    /// Frames would go round for ever.
    #[error("joining hub {0} with hub {1} would make a loop, in which frames go round for ever")]
    HubLoop(u32, u32),
    /// Something is joined with it, or sits on it.
    #[error("the netdev '{id}' is in use by '{by}'")]
    InUse {
        /// The backend's id.
        id: String,
        /// Name of its user.
        by: String,
    },
}

/// A NIC as the network sees it.
#[derive(Debug)]
pub struct NicEnd {
    /// `id=` of the device. None: the network calls it `MODEL.N`, as QEMU does.
    pub id: Option<String>,
    /// `e1000`.
    pub model: &'static str,
    /// Its station address at power-on.
    pub mac: [u8; 6],
    /// The device.
    pub port: Arc<dyn FramePort>,
    /// The backend it is joined with. None: no cable.
    pub netdev: Option<String>,
}

/// All ends and cables of one machine. Clones are the same network; the last one to go unplugs everything.
#[derive(Debug, Clone)]
pub struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    around: Surroundings,
    hubs: Hubs,
    changing: Mutex<()>,
    ends: Mutex<Vec<End>>,
    flaps: Mutex<Vec<Arc<Flap>>>,
}

impl Network {
    /// A network without ends; backends are opened in these surroundings.
    pub fn new(around: Surroundings) -> Self {
        let (hubs, changing) = (Hubs::default(), Mutex::default());
        let (ends, flaps) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { around, hubs, changing, ends, flaps }))
    }

    /// Opens a backend; a hub's port with `netdev=` is joined with that one at once.
    ///
    /// # Errors
    /// [`NetworkError::Open`], [`NetworkError::Taken`], and those of [`Self::plug`] for `netdev=`; the network is as
    /// before then.
    pub fn add_netdev(&self, options: &Netdev) -> Result<(), NetworkError> {
        let _changing = self.change();
        if self.netdev(&options.id).is_some() {
            return Err(NetworkError::Taken(options.id.clone()));
        }
        let uses = match &options.kind {
            NetdevKind::HubPort(port) => {
                port.netdev.iter().try_for_each(|used| check_hubs(&self.ends(), port.hubid, used))?;
                port.netdev.clone()
            }
            _ => None,
        };
        let backend = open::open(options, &self.0.around, &self.0.hubs)?;
        self.add_backend(backend, uses)
    }

    /// Opens a chardev, for a filter to name.
    ///
    /// # Errors
    /// [`NetworkError::Open`], [`NetworkError::Taken`].
    pub fn add_chardev(&self, options: &SocketChardev) -> Result<(), NetworkError> {
        let _changing = self.change();
        let name = chardev_name(&options.id);
        if self.netdev(&name).is_some() {
            return Err(NetworkError::Taken(options.id.clone()));
        }
        // Its connections are no events of a netdev.
        let around = Surroundings { happenings: NetdevEvents::default(), ..self.0.around.clone() };
        let backend = socket::open_chardev(&name, options, &around)?;
        self.add_backend(backend, None)
    }

    fn add_backend(&self, backend: Arc<dyn Backend>, uses: Option<String>) -> Result<(), NetworkError> {
        let name = backend.id().to_owned();
        {
            let mut ends = self.ends();
            uses.iter().try_for_each(|used| check_free(&ends, used))?;
            let side = Side { port: backend.clone(), filters: Vec::new() };
            let what = What::Netdev(backend);
            ends.push(End { name: name.clone(), what, side, link_up: true, uses });
        }
        self.lay(&name, false);
        Ok(())
    }

    /// Closes a backend that nothing uses. A hub's port lets go of the netdev that it named.
    ///
    /// # Errors
    /// [`NetworkError::NoNetdev`], [`NetworkError::InUse`].
    pub fn remove_netdev(&self, id: &str) -> Result<(), NetworkError> {
        let _changing = self.change();
        {
            let ends = self.ends();
            let at = position(&ends, id, false).filter(|&at| matches!(ends[at].what, What::Netdev(_)));
            let at = at.ok_or_else(|| NetworkError::NoNetdev(id.to_owned()))?;
            let by = ends.iter().find(|end| end.uses.as_deref() == Some(id)).map(|end| &end.name);
            let by = by.cloned().or_else(|| ends[at].side.filters.first().map(|f| f.id().to_owned()));
            if let Some(by) = by {
                return Err(NetworkError::InUse { id: id.to_owned(), by });
            }
        }
        self.pull(id, false);
        // Closed here and not under the lock: a tap's script may run.
        let gone: Vec<End> = self.ends().extract_if(.., |end| end.is(id, false)).collect();
        drop(gone);
        Ok(())
    }

    /// Adds a NIC and plugs its cable in; returns its name.
    ///
    /// # Errors
    /// [`NetworkError::Taken`], [`NetworkError::NoNetdev`], [`NetworkError::InUse`]; the network is as before then.
    pub fn add_nic(&self, nic: NicEnd) -> Result<String, NetworkError> {
        let _changing = self.change();
        let NicEnd { id, model, mac, port, netdev } = nic;
        let name = {
            let mut ends = self.ends();
            let name = id.unwrap_or_else(|| free_name(&ends, model));
            if position(&ends, &name, true).is_some() {
                return Err(NetworkError::Taken(name));
            }
            if let Some(netdev) = &netdev {
                check_free(&ends, netdev)?;
            }
            let side = Side { port, filters: Vec::new() };
            let what = What::Nic { model, mac };
            ends.push(End { name: name.clone(), what, side, link_up: true, uses: netdev });
            name
        };
        self.lay(&name, true);
        Ok(name)
    }

    /// Unplugs a NIC and forgets it.
    ///
    /// # Errors
    /// [`NetworkError::NoNic`].
    pub fn remove_nic(&self, name: &str) -> Result<(), NetworkError> {
        let _changing = self.change();
        self.known_nic(name)?;
        self.pull(name, true);
        self.ends().retain(|end| !end.is(name, true));
        Ok(())
    }

    /// Joins a NIC that has no cable with a backend that nothing uses.
    ///
    /// # Errors
    /// [`NetworkError::NoNic`], [`NetworkError::NoNetdev`], [`NetworkError::InUse`].
    pub fn plug(&self, nic: &str, netdev: &str) -> Result<(), NetworkError> {
        let _changing = self.change();
        {
            let mut ends = self.ends();
            let at = position(&ends, nic, true).ok_or_else(|| NetworkError::NoNic(nic.to_owned()))?;
            if let Some(other) = ends[at].uses.clone() {
                return Err(NetworkError::InUse { id: other, by: nic.to_owned() });
            }
            check_free(&ends, netdev)?;
            ends[at].uses = Some(netdev.to_owned());
        }
        self.lay(nic, true);
        Ok(())
    }

    /// Pulls a NIC's cable out.
    ///
    /// # Errors
    /// [`NetworkError::NoNic`].
    pub fn unplug(&self, nic: &str) -> Result<(), NetworkError> {
        let _changing = self.change();
        self.known_nic(nic)?;
        self.pull(nic, true);
        Ok(())
    }

    fn known_nic(&self, name: &str) -> Result<(), NetworkError> {
        position(&self.ends(), name, true).map(drop).ok_or_else(|| NetworkError::NoNic(name.to_owned()))
    }

    /// Takes the cable away that the end has made.
    fn pull(&self, name: &str, is_nic: bool) {
        let other = {
            let mut ends = self.ends();
            position(&ends, name, is_nic).and_then(|at| ends[at].uses.take())
        };
        self.lay(name, is_nic);
        if let Some(netdev) = other {
            self.lay(&netdev, false);
        }
    }

    /// Sets the link of a backend or, if none has this name, of a NIC. A link is up if both its ends say so; a
    /// backend speaks for the NIC that uses it too, as in QEMU. NICs see it as a cable pulled or plugged in.
    ///
    /// # Errors
    /// [`NetworkError::NoSuchName`].
    pub fn set_link(&self, name: &str, up: bool) -> Result<(), NetworkError> {
        let _changing = self.change();
        let is_nic = {
            let mut ends = self.ends();
            let is_nic = position(&ends, name, false).is_none();
            let at =
                position(&ends, name, is_nic).ok_or_else(|| NetworkError::NoSuchName(name.to_owned()))?;
            ends[at].link_up = up;
            if !is_nic {
                let user = ends.iter_mut().find(|end| end.is_nic() && end.uses.as_deref() == Some(name));
                user.into_iter().for_each(|nic| nic.link_up = up);
            }
            is_nic
        };
        self.lay(name, is_nic);
        Ok(())
    }

    /// The backend with this id.
    pub fn netdev(&self, id: &str) -> Option<Arc<dyn Backend>> {
        self.netdevs().into_iter().find(|backend| backend.id() == id)
    }

    /// All backends, oldest first.
    pub fn netdevs(&self) -> Vec<Arc<dyn Backend>> {
        let backend = |end: &End| match &end.what {
            What::Netdev(backend) => Some(backend.clone()),
            What::Nic { .. } | What::Branch(_) => None,
        };
        self.ends().iter().filter_map(backend).collect()
    }

    /// Name of the backend that a NIC is joined with.
    pub fn peer(&self, nic: &str) -> Option<String> {
        self.ends().iter().find(|end| end.is(nic, true)).and_then(|end| end.uses.clone())
    }

    /// Makes a filter and puts it on its backend.
    ///
    /// # Errors
    /// [`NetworkError::Filter`], and those of [`Self::insert_filter`].
    pub fn add_filter(&self, options: &FilterOptions) -> Result<(), NetworkError> {
        if self.netdev(&options.netdev).is_none() {
            return Err(NetworkError::NoNetdev(options.netdev.clone()));
        }
        let filter = filter::open(options, &self.0.around)?;
        self.insert_filter(&options.netdev, filter, &options.place)
    }

    /// Puts a filter on a backend, into the cable that it has or will have.
    ///
    /// # Errors
    /// [`NetworkError::NoNetdev`], [`NetworkError::Taken`], [`NetworkError::NoFilter`] (the one that `place` names),
    /// and what stands against its `indev=` and `outdev=`.
    pub fn insert_filter(
        &self,
        netdev: &str,
        filter: Arc<dyn Filter>,
        place: &Place,
    ) -> Result<(), NetworkError> {
        let _changing = self.change();
        let branches = filter.branches();
        let names: Vec<String> = branches.iter().map(|branch| branch_name(filter.id(), branch.key)).collect();
        {
            let mut ends = self.ends();
            let at =
                position(&ends, netdev, false).ok_or_else(|| NetworkError::NoNetdev(netdev.to_owned()))?;
            if ends.iter().flat_map(|end| &end.side.filters).any(|other| other.id() == filter.id()) {
                return Err(NetworkError::Taken(filter.id().to_owned()));
            }
            let filters = &ends[at].side.filters;
            let of = |id: &str| {
                let at = filters.iter().position(|other| other.id() == id);
                at.ok_or_else(|| NetworkError::NoFilter(id.to_owned()))
            };
            let index = match place {
                Place::Head => 0,
                Place::Tail => filters.len(),
                Place::Before(id) => of(id)?,
                Place::Behind(id) => of(id)? + 1,
            };
            let used = branches.iter().map(|branch| check_branch(&ends, netdev, branch));
            let used = used.collect::<Result<Vec<_>, _>>()?;
            ends[at].side.filters.insert(index, filter);
            ends.extend(branches.into_iter().zip(used).zip(&names).map(|((branch, uses), name)| End {
                name: name.clone(),
                side: Side { port: branch.port.clone(), filters: Vec::new() },
                what: What::Branch(branch.port),
                link_up: true,
                uses: Some(uses),
            }));
        }
        self.lay(netdev, false);
        names.iter().for_each(|name| self.lay(name, false));
        Ok(())
    }

    /// The filter with this id.
    pub fn filter(&self, id: &str) -> Option<Arc<dyn Filter>> {
        let ends = self.ends();
        ends.iter().flat_map(|end| &end.side.filters).find(|filter| filter.id() == id).cloned()
    }

    /// Takes a filter out of its cable.
    ///
    /// # Errors
    /// [`NetworkError::NoFilter`].
    pub fn remove_filter(&self, id: &str) -> Result<(), NetworkError> {
        let _changing = self.change();
        let found = self.ends().iter_mut().find_map(|end| {
            let at = end.side.filters.iter().position(|filter| filter.id() == id)?;
            Some((end.name.clone(), end.side.filters.remove(at)))
        });
        let (netdev, filter) = found.ok_or_else(|| NetworkError::NoFilter(id.to_owned()))?;
        self.lay(&netdev, false);
        cable::clear_filter(&*filter);
        for branch in filter.branches() {
            let name = branch_name(id, branch.key);
            self.pull(&name, false);
            self.ends().retain(|end| !end.is(&name, false));
        }
        Ok(())
    }

    /// Everything as it is now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.ends(), self.0.hubs.snapshot())
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.0.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ends(&self) -> MutexGuard<'_, Vec<End>> {
        self.0.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lays the cable of one end as the ends now say, and tells both ports.
    fn lay(&self, name: &str, is_nic: bool) {
        let (a, b, joined) = {
            let ends = self.ends();
            let Some(a) = position(&ends, name, is_nic) else { return };
            let b = peer_of(&ends, a);
            let joined = b.is_some_and(|b| ends[a].link_up && ends[b].link_up);
            match b {
                Some(b) if joined => cable::lay(&ends[a].side, &ends[b].side),
                Some(b) => [a, b].iter().for_each(|&end| cable::cut(&ends[end].side)),
                None => cable::clear(&ends[a].side),
            }
            let held = |at: usize| (ends[at].side.port.clone(), ends[at].what.clone());
            (held(a), b.map(held), joined)
        };
        match b {
            Some(b) => {
                tell(&a.0, || joined && b.1.own_link());
                tell(&b.0, || joined && a.1.own_link());
            }
            None => a.0.peer_link(false),
        }
    }
}

/// Tells a port whether its link is up, until that is still so, and that there may be room again.
fn tell(port: &Arc<dyn FramePort>, is_up: impl Fn() -> bool) {
    let mut up = is_up();
    loop {
        port.peer_link(up);
        // A backend whose own link changed meanwhile has told the port before we did.
        match is_up() {
            now if now == up => break,
            now => up = now,
        }
    }
    port.peer_ready();
}

impl Drop for Shared {
    /// Peers hold each other; without this none would ever go.
    fn drop(&mut self) {
        let ends = self.ends.get_mut().unwrap_or_else(PoisonError::into_inner);
        ends.iter().for_each(|end| cable::clear(&end.side));
    }
}
