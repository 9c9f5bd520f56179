//! A machine that only remembers what it was told, for the monitor's tests.

use std::sync::{Arc, Mutex};

use super::{Commands, Controls, CpuInfo, Events, NicInfo, PciBarInfo, PciInfo, RunState, RxFilterInfo};
use crate::cli::CardFaultPlan;
use crate::cpu::CpuState;
use crate::event::EventLoop;
use crate::failures::Failures;
use crate::fault::CardFault;
use crate::netdev::{FaultSnapshot, Network, Notices, Surroundings};

/// What the machine was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    Stop,
    Cont,
    Reset,
    PowerButton,
    Quit,
    Frame(String, usize),
    /// A fault in a card.
    Fault(CardFault),
    TellAgain,
}

/// The machine.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Told>>);

impl Recorder {
    /// Everything so far.
    pub fn told(&self) -> Vec<Told> {
        self.0.lock().unwrap().clone()
    }

    fn note(&self, what: Told) {
        self.0.lock().unwrap().push(what);
    }
}

impl Controls for Recorder {
    fn state(&self) -> RunState {
        RunState::Running
    }

    fn stop(&self) -> Result<(), String> {
        self.note(Told::Stop);
        Ok(())
    }

    fn cont(&self) -> Result<(), String> {
        self.note(Told::Cont);
        Ok(())
    }

    fn reset(&self) {
        self.note(Told::Reset);
    }

    fn press_power_button(&self) {
        self.note(Told::PowerButton);
    }

    fn quit(&self) {
        self.note(Told::Quit);
    }

    fn accel(&self) -> &'static str {
        "soft"
    }

    fn cpus(&self) -> Vec<CpuInfo> {
        vec![CpuInfo { index: 0, thread_id: 7 }]
    }

    fn registers(&self, cpu: u32) -> Result<CpuState, String> {
        if cpu == 0 { Ok(CpuState::default()) } else { Err(format!("CPU {cpu} does not answer")) }
    }

    fn nic_registers(&self, name: Option<&str>) -> Vec<(String, Vec<(String, u32)>)> {
        if name.is_some_and(|name| name != "nic0") {
            return Vec::new();
        }
        let values =
            [("CTRL", 1), ("TDBAL", 0x319000), ("TDBAH", 1), ("TDLEN", 0x1000), ("TDH", 3), ("TDT", 5)];
        vec![("nic0".into(), values.map(|(name, value)| (name.into(), value)).into())]
    }

    fn device_break(&self, what: &str) -> Result<String, String> {
        Ok(format!("stops at {what}\n"))
    }

    fn doctors_tell_again(&self) {
        self.note(Told::TellAgain);
    }

    fn pci(&self) -> Vec<PciInfo> {
        let bars = vec![PciBarInfo { index: 0, io: false, base: 0xfebc_0000, size: 0x2_0000 }];
        vec![PciInfo { slot: 3, id: (0x8086, 0x100e), class: 0x200, interrupt: Some((1, 11)), bars }]
    }

    fn nics(&self) -> Vec<NicInfo> {
        let counters = [("rx_frames".to_owned(), 5.into())].into_iter().collect();
        let name = "nic0".to_owned();
        vec![NicInfo { name, slot: 3, mac: [0x52, 0x54, 0, 0, 0, 1], link_up: true, counters }]
    }

    fn rx_filters(&self, name: Option<&str>) -> Vec<RxFilterInfo> {
        if name.is_some_and(|name| name != "nic0") {
            return Vec::new();
        }
        vec![RxFilterInfo {
            name: "nic0".into(),
            all_unicast: false,
            all_multicast: false,
            broadcast: true,
            mac: [0x52, 0x54, 0, 0, 0, 1],
            unicast: vec![[0x52, 0x54, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
            multicast: vec![[1, 0, 0x5e, 0, 0, 1]],
            hash: true,
            vlan_filter: true,
            vlans: vec![0, 5],
        }]
    }

    fn add_card_fault(&self, plan: &CardFaultPlan) -> Result<(), String> {
        self.note(Told::Fault(plan.fault));
        Ok(())
    }

    fn remove_card_fault(&self, id: &str) -> bool {
        id == "card0"
    }

    fn card_faults(&self) -> Vec<FaultSnapshot> {
        let (id, place) = ("card0".to_owned(), "device nic0".to_owned());
        vec![FaultSnapshot { id, place, text: "type=fault,kind=tx-hang,hit=1,of=2".to_owned() }]
    }

    fn transmit(&self, nic: &str, frame: &[u8]) -> bool {
        self.note(Told::Frame(nic.to_owned(), frame.len()));
        true
    }
}

/// Commands of such a machine with an empty network.
pub fn commands() -> (Commands, Arc<Recorder>) {
    let (_loop, handle) = EventLoop::start().unwrap();
    let network = Network::new(Surroundings::new(handle, Notices::new(|_| ())));
    let machine = Arc::new(Recorder::default());
    let failures = Failures::new(|what| panic!("{what}"));
    (Commands { machine: machine.clone(), network, events: Events::default(), failures }, machine)
}
