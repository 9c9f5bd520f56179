//! What a monitor can be told: one typed method for each command, for both front ends.
//!
//! Called by `qmp_commands.rs` and `hmp.rs` on a session's thread; calls `Controls` (the machine) and `Network`.
//! Errors carry QMP's class; their text says what to do and never begins with a command's name.

use std::sync::Arc;
use std::time::Duration;

use super::{Controls, Event, Events, RunState, RxFilterInfo};
use crate::cli::{self, FaultPlan};
use crate::failures::Failures;
use crate::netdev::network::Filter;
use crate::netdev::{Backend, FaultSnapshot, Network, NetworkError, User};

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// QMP's CommandNotFound.
    #[error("{0}")]
    NotFound(String),
    /// QMP's DeviceNotFound.
    #[error("Device '{0}' not found")]
    NoDevice(String),
    /// QMP's GenericError.
    #[error("{0}")]
    Generic(String),
}

impl CommandError {
    /// QMP's word.
    pub fn class(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "CommandNotFound",
            Self::NoDevice(_) => "DeviceNotFound",
            Self::Generic(_) => "GenericError",
        }
    }
}

impl From<NetworkError> for CommandError {
    fn from(error: NetworkError) -> Self {
        match error {
            NetworkError::NoNetdev(name) | NetworkError::NoNic(name) | NetworkError::NoSuchName(name) => {
                Self::NoDevice(name)
            }
            other => Self::Generic(other.to_string()),
        }
    }
}

/// What every command gives.
pub type Answer<T> = Result<T, CommandError>;

/// How `announce-self` repeats itself (QMP's AnnounceParameters).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    /// Pause after the first announcement.
    pub initial: Duration,
    /// Longest pause.
    pub max: Duration,
    /// How many announcements, at least one.
    pub rounds: u32,
    /// How much longer each pause is.
    pub step: Duration,
}

impl Default for Announcement {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { initial: ms(50), max: ms(550), rounds: 5, step: ms(100) }
    }
}

/// The commands. Clones command the same machine.
#[derive(Debug, Clone)]
pub struct Commands {
    /// CPUs, devices, life.
    pub machine: Arc<dyn Controls>,
    /// Backends and cables.
    pub network: Network,
    /// What happens because of a command.
    pub events: Events,
    /// Where a panic in what a command leaves running is told.
    pub failures: Failures,
}

impl Commands {
    /// `stop`: nothing if the machine stands already.
    ///
    /// # Errors
    /// The accelerator's.
    pub fn stop(&self) -> Answer<()> {
        self.machine.stop().map_err(CommandError::Generic)
    }

    /// `cont`.
    ///
    /// # Errors
    /// When the run is over, and the accelerator's.
    pub fn cont(&self) -> Answer<()> {
        match self.machine.state() {
            RunState::Shutdown => Err(CommandError::Generic("the run is over".into())),
            _ => self.machine.cont().map_err(CommandError::Generic),
        }
    }

    /// Runs a line of HMP; the answer's lines end in \r\n.
    pub fn human(&self, line: &str) -> String {
        super::hmp::run(self, line)
    }

    /// `system_powerdown`.
    pub fn powerdown(&self) {
        self.events.raise(&Event::Powerdown);
        self.machine.press_power_button();
    }

    /// `set_link`.
    ///
    /// # Errors
    /// When neither a NIC nor a backend has the name.
    pub fn set_link(&self, name: &str, up: bool) -> Answer<()> {
        Ok(self.network.set_link(name, up)?)
    }

    /// `netdev_add`; `text` is the value of a `-netdev`, in either form.
    ///
    /// # Errors
    /// The command line's, and those of opening the backend.
    pub fn netdev_add(&self, text: &str) -> Answer<()> {
        let netdev = cli::parse_netdev(text).map_err(|error| CommandError::Generic(error.to_string()))?;
        Ok(self.network.add_netdev(&netdev)?)
    }

    /// `netdev_del`.
    ///
    /// # Errors
    /// When there is no such backend, or something uses it.
    pub fn netdev_del(&self, id: &str) -> Answer<()> {
        Ok(self.network.remove_netdev(id)?)
    }

    /// `object_add` of a filter; `text` is the value of an `-object`, in either form.
    ///
    /// # Errors
    /// The command line's, and those of making the filter.
    pub fn object_add(&self, text: &str) -> Answer<()> {
        let filter = cli::parse_filter(text).map_err(|error| CommandError::Generic(error.to_string()))?;
        Ok(self.network.add_filter(&filter)?)
    }

    /// `object_del` of a filter.
    ///
    /// # Errors
    /// When there is no such filter.
    pub fn object_del(&self, id: &str) -> Answer<()> {
        Ok(self.network.remove_filter(id)?)
    }

    /// `fault_add`; `text` is the value of a `-fault`. Answers the plan's id.
    ///
    /// # Errors
    /// The command line's, those of [`Network::add_fault`], and what the machine says of its cards.
    pub fn fault_add(&self, text: &str) -> Answer<String> {
        let taken = self.faults();
        let is_taken = |id: &str| taken.iter().any(|fault| fault.id == id);
        let number = (0..).find(|n| !is_taken(&format!("fault{n}"))).unwrap_or(0);
        let plan =
            cli::parse_fault(text, number).map_err(|error| CommandError::Generic(error.to_string()))?;
        if is_taken(plan.id()) {
            return Err(NetworkError::Taken(plan.id().to_owned()).into());
        }
        match &plan {
            FaultPlan::Card(plan) => self.machine.add_card_fault(plan).map_err(CommandError::Generic)?,
            FaultPlan::Cable(plan) => self.network.add_fault(plan)?,
        }
        Ok(plan.id().to_owned())
    }

    /// `fault_del`.
    ///
    /// # Errors
    /// When there is no such fault.
    pub fn fault_del(&self, id: &str) -> Answer<()> {
        if self.machine.remove_card_fault(id) { Ok(()) } else { Ok(self.network.remove_fault(id)?) }
    }

    /// The faults of cables and cards.
    pub fn faults(&self) -> Vec<FaultSnapshot> {
        let mut all = self.network.faults();
        all.extend(self.machine.card_faults());
        all
    }

    /// `qom-get` of a filter's `status`, the one property that can be asked for and changed.
    ///
    /// # Errors
    /// When there is no such filter or no such property.
    pub fn filter_status(&self, path: &str, property: &str) -> Answer<bool> {
        Ok(self.filter(path, property)?.is_on())
    }

    /// `qom-set` of a filter's `status`.
    ///
    /// # Errors
    /// When there is no such filter or no such property.
    pub fn set_filter_status(&self, path: &str, property: &str, on: bool) -> Answer<()> {
        self.filter(path, property)?.switch(on);
        Ok(())
    }

    /// The filter at `/objects/ID`, or of that id.
    fn filter(&self, path: &str, property: &str) -> Answer<Arc<dyn Filter>> {
        let id = path.strip_prefix("/objects/").unwrap_or(path);
        let filter = self.network.filter(id).ok_or_else(|| CommandError::NoDevice(path.to_owned()))?;
        if property == "status" {
            Ok(filter)
        } else {
            Err(CommandError::Generic(format!("Property '{id}.{property}' not found; a filter has 'status'")))
        }
    }

    /// `hostfwd_add`.
    ///
    /// # Errors
    /// When there is no such `user` backend, and its own.
    pub fn hostfwd_add(&self, netdev: Option<&str>, rule: &str) -> Answer<()> {
        self.with_user(netdev, |user| {
            let rule = cli::host_forward(rule, user.first_guest())?;
            user.add_forward(&rule).map_err(|error| error.to_string())
        })
    }

    /// `hostfwd_remove`.
    ///
    /// # Errors
    /// When there is no such `user` backend, and its own.
    pub fn hostfwd_remove(&self, netdev: Option<&str>, rule: &str) -> Answer<()> {
        self.with_user(netdev, |user| {
            let gone = user.remove_forward(&cli::listen_at(rule)?);
            if gone {
                Ok(())
            } else {
                Err(format!("no forwarding listens at '{rule}'; info usernet lists them"))
            }
        })
    }

    /// The `user` backends, with what they say of themselves.
    pub fn usernet(&self) -> Vec<(String, String)> {
        let told =
            |backend: Arc<dyn Backend>| Some((backend.id().to_owned(), backend.user()?.info().to_string()));
        self.network.netdevs().into_iter().filter_map(told).collect()
    }

    fn with_user(&self, netdev: Option<&str>, f: impl FnOnce(&User) -> Result<(), String>) -> Answer<()> {
        let backend = match netdev {
            Some(id) => self.network.netdev(id).ok_or_else(|| CommandError::NoDevice(id.to_owned()))?,
            None => self.only_user()?,
        };
        let Some(user) = backend.user() else {
            let what = format!("the netdev '{}' is of type {}, not user", backend.id(), backend.kind());
            return Err(CommandError::Generic(what));
        };
        f(user).map_err(CommandError::Generic)
    }

    fn only_user(&self) -> Answer<Arc<dyn Backend>> {
        let mut users: Vec<_> =
            self.network.netdevs().into_iter().filter(|backend| backend.user().is_some()).collect();
        match (users.pop(), users.is_empty()) {
            (Some(only), true) => Ok(only),
            (None, _) => Err(CommandError::Generic("there is no netdev of type user".into())),
            _ => Err(CommandError::Generic("there are several user netdevs: name one".into())),
        }
    }

    /// `query-rx-filter`, of one NIC or of all.
    ///
    /// # Errors
    /// When there is no such NIC.
    pub fn rx_filters(&self, nic: Option<&str>) -> Answer<Vec<RxFilterInfo>> {
        let found = self.machine.rx_filters(nic);
        match nic {
            Some(name) if found.is_empty() => Err(CommandError::NoDevice(name.to_owned())),
            _ => Ok(found),
        }
    }

    /// `announce-self`: tells the networks of `nics` (all of them if None) where they are, by RARP requests as
    /// QEMU's. The first goes out at once, the others from a thread that ends by itself.
    ///
    /// # Errors
    /// When there is no such NIC.
    pub fn announce_self(&self, nics: Option<&[String]>, how: Announcement) -> Answer<()> {
        let all = self.machine.nics();
        if let Some(missing) =
            nics.into_iter().flatten().find(|name| all.iter().all(|nic| nic.name != **name))
        {
            return Err(CommandError::NoDevice(missing.clone()));
        }
        let wanted = all.into_iter().filter(|nic| nics.is_none_or(|names| names.contains(&nic.name)));
        let frames: Vec<_> = wanted.map(|nic| (nic.name, rarp(nic.mac))).collect();
        let machine = Arc::downgrade(&self.machine);
        let send = move || {
            let Some(machine) = machine.upgrade() else { return false };
            frames.iter().for_each(|(nic, frame)| {
                // A NIC that is gone has nothing to announce.
                machine.transmit(nic, frame);
            });
            true
        };
        send();
        let repeat = move || {
            let mut pause = how.initial;
            for _ in 1..how.rounds {
                std::thread::sleep(pause);
                if !send() {
                    return;
                }
                pause = (pause + how.step).min(how.max);
            }
        };
        self.failures
            .spawn("announce", repeat)
            .map(|_| ())
            .map_err(|error| CommandError::Generic(format!("cannot start a thread: {error}")))
    }
}

/// A reverse ARP request (RFC 903) of the shortest wire length: switches learn the sender's address from it.
fn rarp(mac: [u8; 6]) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    // EtherType; Ethernet and IPv4 addresses of 6 and 4 bytes; request reverse.
    frame[12..22].copy_from_slice(&[0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
    frame[22..28].copy_from_slice(&mac);
    frame[32..38].copy_from_slice(&mac);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_a_rarp_request() {
        let mac = [0x52, 0x54, 0, 1, 2, 3];
        let frame = rarp(mac);
        assert_eq!((&frame[..6], &frame[6..12]), (&[0xff; 6][..], &mac[..]));
        assert_eq!(frame[12..14], [0x80, 0x35]);
        // Hardware and protocol type, lengths, operation 3, sender, no address, target.
        assert_eq!(frame[14..22], [0, 1, 8, 0, 6, 4, 0, 3]);
        assert_eq!((&frame[22..28], &frame[32..38]), (&mac[..], &mac[..]));
        assert_eq!((&frame[28..32], &frame[38..42]), (&[0; 4][..], &[0; 4][..]));
    }
}
