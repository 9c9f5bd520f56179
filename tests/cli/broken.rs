//! Lines that cannot be used: each gets one line that says where, what was wrong and what to do.

use crate::{parse, refusal};

/// Words after `-kernel k`, split at blanks; what the message must contain, in this order.
const BROKEN: &[(&str, &[&str])] = &[
    // Options as such.
    ("-kernal k", &["-kernal: there is no such option", "did you mean '-kernel'?"]),
    ("--nodevice", &["--nodevice: there is no such option"]),
    ("-frobnicate", &["-frobnicate: there is no such option; -help lists them"]),
    ("-Netdev tap", &["did you mean '-netdev'?"]),
    ("-m=512", &["-m=512: '=' does not join an option and its value; write -m '512'"]),
    ("-no-reboot=on", &["-no-reboot takes no value; write -no-reboot"]),
    ("-m512", &["did you mean '-m 512'?"]),
    ("-", &["-: this is no option; remove it"]),
    ("--", &["--: this is no option"]),
    ("---m 1", &["---m: there is no such option"]),
    ("\u{2013}m 512", &["typographic dash", "did you mean '-m'?"]),
    ("netdev tap,id=n0", &["netdev: the dash is missing; did you mean '-netdev'?"]),
    ("disk.img", &["disk.img: this is no option", "a kernel is given by -kernel FILE"]),
    ("-m", &["-m: the value is missing; write -m SIZE"]),
    ("-netdev -device e1000", &["-netdev: the value is missing: '-device' is the next option"]),
    ("-initrd", &["-initrd: the value is missing; write -initrd FILE"]),
    // QEMU's options that are not here.
    ("-hda disk.img", &["-hda: QEMU's -hda is not here; there are no disks", "-initrd"]),
    ("-drive file=x", &["-drive: QEMU's -drive is not here"]),
    ("-cdrom x.iso", &["-cdrom: QEMU's -cdrom is not here"]),
    ("-vga std", &["-vga std: QEMU's -vga is not here", "no display"]),
    ("-display gtk", &["-display gtk: QEMU's -display is not here"]),
    ("-display", &["-display: QEMU's -display is not here"]),
    ("-daemonize", &["QEMU's -daemonize is not here; start it in the background"]),
    ("-monitor file:/tmp/m", &["-monitor file:/tmp/m: nobody can type into a file"]),
    ("-qmp stdio -serial stdio", &["-qmp stdio: stdio is used twice"]),
    ("-qmp stdio -monitor stdio", &["-qmp stdio: stdio is used twice"]),
    ("-qmp tcp:localhost", &["there is no port; write HOST:PORT"]),
    ("-qmp tcp:h:0", &["the port is not a number from 1 to 65535"]),
    ("-qmp unix:/tmp/q,wait=on", &["only a server can wait"]),
    ("-mon chardev=c", &["use -monitor or -qmp"]),
    ("-gdb stdio", &["-gdb stdio: gdb cannot connect to that; write tcp::1234 or unix:PATH"]),
    ("-gdb 1234", &["-gdb 1234: a port stands behind two colons; did you mean tcp::1234?"]),
    ("-gdb tcp:1234", &["a port stands behind two colons; did you mean tcp::1234?"]),
    ("-gdb pty", &["-gdb pty: gdb cannot connect to that; write tcp::1234 or unix:PATH"]),
    ("-gdb help", &["gdb cannot connect to that; write tcp::1234 or unix:PATH"]),
    ("-net nic,model=virtio", &["QEMU's 'virtio' is not here; the NIC here is e1000"]),
    ("-netfilter x", &["QEMU's -netfilter is not here"]),
    ("-fault", &["the value is missing; write -fault KIND[,netdev=ID|device=ID]"]),
    ("-fault netdev=n", &["the kind of the fault is missing; write -fault drop,netdev=ID,rate=1%"]),
    ("-fault dorp,netdev=n", &["'dorp' is not a fault; did you mean 'drop'?"]),
    ("-fault drop", &["netdev= is missing; name the -netdev whose cable it is"]),
    ("-fault drop,netdev=n", &["there is no netdev 'n'"]),
    ("-fault drop,netdev=n,rate=110%", &["'110%' is not a rate; write 0% to 100%, as in 0.5%"]),
    ("-fault drop,netdev=n,rate=NaN", &["'NaN' is not a rate"]),
    ("-fault drop,netdev=n,match=080", &["'080' is no pattern; write hexadecimal bytes"]),
    ("-fault drop,netdev=n,match=+1@2", &["'+1@2' is no pattern"]),
    ("-fault drop,netdev=n,match=@2", &["is no pattern"]),
    ("-fault drop,netdev=n,every=0", &["'0' is not a number from 1"]),
    ("-fault drop,netdev=n,copies=2", &["-fault drop has no 'copies'"]),
    ("-nic none -fault tx-hang", &["the machine has 0 NICs; say which: device=ID"]),
    (
        "-netdev tap,id=n -device e1000,id=e,netdev=n -fault tx-hang,device=f",
        &["there is no NIC 'f'; name the id= of a -device e1000"],
    ),
    (
        "-netdev tap,id=n -device e1000,id=e,netdev=n -fault tx-hang,netdev=n",
        &["-fault tx-hang has no 'netdev'"],
    ),
    (
        "-netdev tap,id=n -device e1000,id=e,netdev=n -fault irq-lost,time=1s",
        &["-fault irq-lost has no 'time'"],
    ),
    ("-fault delay,netdev=n", &["time= is missing; add time=20ms"]),
    ("-fault link-flap,netdev=n,time=5s,period=5s", &["period= must be longer than time="]),
    ("-fault link-flap,netdev=n,rate=1%", &["-fault link-flap has no 'rate'"]),
    (
        "-netdev tap,id=n -fault drop,id=a,netdev=n -fault drop,id=a,netdev=n",
        &["the fault id 'a' is taken by"],
    ),
    (
        "-netdev tap,id=n -object filter-dump,id=a,netdev=n,file=x -fault drop,id=a,netdev=n",
        &["the id 'a' is that of '-object filter-dump,id=a,netdev=n,file=x'; choose another id="],
    ),
    ("-object filter-dmp,id=f", &["'filter-dmp' is not an object; did you mean 'filter-dump'?"]),
    ("-object id=f", &["the type of the object is missing"]),
    ("-object rng-random,id=r", &["QEMU's 'rng-random' is not here; leave it out"]),
    ("-object filter-dump,netdev=n,file=f", &["id= is missing; add id=f0"]),
    ("-object filter-dump,id=f,file=f", &["netdev= is missing"]),
    ("-object filter-dump,id=f,netdev=n", &["file= is missing; add file=FILE"]),
    ("-object filter-dump,id=f,netdev=n,file=x", &["there is no netdev 'n'"]),
    ("-object filter-dump,id=f,netdev=n,file=x,maxlen=0", &["'0' is not a number from 1"]),
    ("-object filter-dump,id=f,netdev=n,file=x,format=cap", &["'cap' is not a choice; write pcap or pcapng"]),
    (
        "-object filter-dump,id=f,netdev=n,file=x,queue=both",
        &["'both' is not a choice; write all or rx or tx"],
    ),
    ("-object filter-dump,id=f,netdev=n,file=x,insert=before", &["insert= goes with position=id=ID"]),
    ("-object filter-dump,id=f,netdev=n,file=x,position=first", &["'first' is no position"]),
    ("-object filter-dump,id=f,netdev=n,file=x,filter=1", &["-object filter-dump has no 'filter'"]),
    ("-object filter-buffer,id=f,netdev=n", &["interval= is missing"]),
    ("-object filter-mirror,id=f,netdev=n", &["outdev= is missing; name a -chardev socket"]),
    ("-object filter-redirector,id=f,netdev=n", &["indev= and outdev= are missing; add one, or both"]),
    ("-object filter-redirector,id=f,netdev=n,indev=c,outdev=c", &["indev= and outdev= are the same"]),
    (
        "-netdev tap,id=n -object filter-mirror,id=f,netdev=n,outdev=c",
        &["outdev: there is no chardev and no netdev 'c'; add -chardev socket,id=ID"],
    ),
    (
        "-netdev tap,id=n -netdev hubport,id=p,hubid=0 -object filter-mirror,id=f,netdev=n,outdev=p",
        &["outdev: 'p' is a port of a hub, by which frames may come back for ever"],
    ),
    (
        "-netdev tap,id=n -object filter-mirror,id=f,netdev=n,outdev=n",
        &["outdev: a filter-mirror or filter-redirector sits on 'n'"],
    ),
    (
        "-netdev tap,id=n -netdev user,id=o -device e1000,netdev=o -object filter-mirror,id=f,netdev=n,outdev=o",
        &["the netdev 'o' is used by '-device e1000,netdev=o'"],
    ),
    (
        "-netdev tap,id=n -chardev socket,id=c,path=s -object filter-mirror,id=f,netdev=n,outdev=c \
         -object filter-mirror,id=g,netdev=n,outdev=c",
        &["outdev: the chardev 'c' is used by '-object filter-mirror,id=f,netdev=n,outdev=c'"],
    ),
    ("-chardev socket,path=s", &["id= is missing; add id=c0"]),
    ("-chardev socket,id=c", &["the address is missing; add path=PATH, or host=HOST,port=PORT"]),
    ("-chardev socket,id=c,path=s,port=1", &["path= and port= name two places"]),
    ("-chardev socket,id=c,path=s,wait=on", &["only a server can wait for a client; add server=on"]),
    ("-chardev socket,id=c,port=1", &["a client needs the host and the port"]),
    ("-chardev socket,id=c,path=s,server=on,reconnect=1", &["a server waits for others to connect"]),
    ("-chardev pty,id=c", &["QEMU's 'pty' is not here; write the place into -serial, -monitor or -qmp"]),
    ("-chardev sock,id=c", &["'sock' is not a chardev"]),
    (
        "-netdev tap,id=n -object filter-dump,id=f,netdev=n,file=x,position=id=g",
        &["netdev n has no filter 'g' yet"],
    ),
    (
        "-netdev tap,id=n -object filter-dump,id=f,netdev=n,file=x -object filter-buffer,id=f,netdev=n,interval=1",
        &["'f'"],
    ),
    ("-bios x", &["-bios: there is a -kernel, too", "leave one of them out"]),
    ("-bios", &["-bios: the value is missing; write -bios FILE"]),
    ("-L /usr/share/seabios", &["QEMU's -L is not here", "-bios"]),
    // -device.
    ("-device e1001", &["-device e1001: 'e1001' is not a device; did you mean 'e1000'?"]),
    ("-device bicycle", &["'bicycle' is not a device; -device help lists what there is"]),
    ("-device virtio-net-pci", &["QEMU's 'virtio-net-pci' is not here; the NIC here is e1000"]),
    ("-device e1000e,netdev=n0", &["QEMU's 'e1000e' is not here"]),
    ("-device netdev=n0", &["the model is missing; write -device e1000,netdev=ID"]),
    ("-device driver=e1000,driver=e1000", &["'driver' is given twice"]),
    ("-device e1000,foo=1", &["-device e1000 has no 'foo'; -device e1000,help lists what it has"]),
    ("-device e1000,netdve=n0", &["-device e1000 has no 'netdve'; did you mean 'netdev'?"]),
    ("-device e1000,netdev", &["'netdev' has no value; write netdev=<str>"]),
    ("-device e1000,=n0", &["'=n0' has no key; write key=value"]),
    ("-device e1000,id=a,id=b", &["'id' is given twice; keep one of them"]),
    ("-device e1000,id=9x", &["id: '9x' is not an id; start with a letter"]),
    ("-device e1000,mac=zz", &["mac: 'zz' is not a MAC address", "52:54:00:12:34:56"]),
    ("-device e1000,mac=52:54:00:12:34", &["is not a MAC address"]),
    ("-device e1000,mac=52:54:00:12:34:567", &["is not a MAC address"]),
    ("-device e1000,mac=52:54:00:12:34:+6", &["is not a MAC address"]),
    ("-device e1000,mac=01:00:5e:00:00:01", &["is a multicast address", "unicast", "start with 02"]),
    ("-device e1000,mac=ff:ff:ff:ff:ff:ff", &["is a multicast address"]),
    ("-device e1000,mac=0:0:0:0:0:0", &["means 'no address'"]),
    ("-device e1000,addr=99", &["addr: there is no slot 0x99", "hexadecimal, 1 to 1e"]),
    ("-device e1000,addr=20", &["there is no slot 0x20"]),
    ("-device e1000,addr=0", &["slot 0x0 belongs to the machine's own bridges"]),
    ("-device e1000,addr=1f", &["slot 0x1f belongs to the machine's own bridges"]),
    ("-device e1000,addr=3.1", &["function 1, but every device here has one function; write addr=3"]),
    ("-device e1000,addr=slot3", &["'slot3' is not a PCI slot"]),
    (
        "-device e1000,addr=3 -device e1000,addr=0x3",
        &["-device e1000,addr=0x3: the PCI slot is taken by '-device e1000,addr=3'"],
    ),
    ("-device e1000,link-delay=soon", &["link-delay: 'soon' is not a time"]),
    ("-device e1000,link-delay=2h", &["'2h' is longer than any link takes"]),
    ("-device e1000-82543gc", &["'e1000-82543gc' is not a device; did you mean 'e1000-82544gc'?"]),
    (
        "-device e1000-82545em,foo=1",
        &["-device e1000-82545em has no 'foo'; -device e1000-82545em,help lists"],
    ),
    ("-device e1000,msi=maybe", &["msi: 'maybe' is neither 'on' nor 'off'"]),
    ("-device e1000,strict=1", &["strict: '1' is neither 'on' nor 'off'"]),
    ("-device e1000,overflow=block", &["overflow: 'block' is not a choice; write wait or drop"]),
    ("-device e1000,eeprom=", &["eeprom: the path is empty"]),
    ("-device e1000,mitigation=off", &["-device e1000 has no 'mitigation' here"]),
    (
        "-device e1000,eeprom=f -device e1000-82545em,eeprom=f",
        &[
            "-device e1000-82545em,eeprom=f: this EEPROM belongs to '-device e1000,eeprom=f'; give each NIC its own",
        ],
    ),
    (
        "-device e1000,bootindex=1",
        &["-device e1000 has no 'bootindex' here; leave it out (the firmware's own order holds)"],
    ),
    ("-device e1000,rombar=1", &["-device e1000 has no 'rombar' here; leave it out"]),
    (
        "-device e1000,netdev=nope",
        &["-device e1000,netdev=nope: there is no netdev 'nope'; add -netdev tap,id=nope"],
    ),
    ("-netdev tap,id=n0 -device e1000,netdev=m0", &["there is no netdev 'm0'; did you mean 'n0'?"]),
    (
        "-netdev tap,id=lan -netdev tap,id=wide -device e1000,netdev=wied",
        &["there is no netdev 'wied'; did you mean 'wide'?"],
    ),
    (
        "-netdev tap,id=lan -netdev tap,id=wide -device e1000,netdev=xyz",
        &["there is no netdev 'xyz'; there are lan, wide"],
    ),
    (
        "-netdev tap,id=n0 -device e1000,netdev=n0 -device e1000,netdev=n0,id=b",
        &["-device e1000,netdev=n0,id=b: the netdev 'n0' is used by '-device e1000,netdev=n0'; give each"],
    ),
    ("-device e1000,id=x -device e1000,id=x", &["-device e1000,id=x: the device id 'x' is taken by"]),
    ("-device isa-debug-exit,iosize=3", &["iosize: 3 is not the width of an access"]),
    ("-device isa-debug-exit,iobase=0xffff", &["iobase: '0xffff' is not a number from 0 to 65534"]),
    ("-device isa-debug-exit,iobase=-1", &["'-1' is not a number from 0"]),
    (
        "-device isa-debug-exit -device isa-debug-exit,iobase=0x502",
        &["iobase=0x502: these I/O ports are taken by '-device isa-debug-exit'"],
    ),
    // -netdev.
    ("-netdev tap", &["-netdev tap: id= is missing; add id=n0 here and netdev=n0 to the -device"]),
    ("-netdev id=n0", &["the type of the backend is missing; write -netdev tap,id=ID"]),
    ("-netdev tep,id=n0", &["'tep' is not a backend; did you mean 'tap'?"]),
    ("-netdev foo,id=n0", &["'foo' is not a backend; -netdev help lists what there is"]),
    ("-netdev user,id=n0,smb=/srv", &["-netdev user has no 'smb' here; leave it out"]),
    (
        "-netdev user,id=n0,net=10.0.2.0",
        &["net: '10.0.2.0' lacks the prefix length; did you mean 10.0.2.0/24?"],
    ),
    (
        "-netdev user,id=n0,hostfwd=foo",
        &["hostfwd: 'foo' has no '-' before the guest's end; write [tcp|udp]:"],
    ),
    (
        "-netdev vde,id=n0",
        &["QEMU's backend 'vde' is not here; its library is not built in: put a tap on the switch"],
    ),
    ("-netdev tap,id=n0,foo=1", &["-netdev tap has no 'foo'; -netdev tap,help lists what it has"]),
    ("-netdev tap,id=n0,iface=tap0", &["-netdev tap has no 'iface'"]),
    ("-netdev tap,id=n0,ifnam=tap0", &["-netdev tap has no 'ifnam'; did you mean 'ifname'?"]),
    ("-netdev tap,id=n0,vhost=on", &["-netdev tap has no 'vhost' here", "virtio"]),
    ("-netdev tap,id=n0,queues=4", &["-netdev tap has no 'queues' here", "one queue"]),
    ("-netdev tap,id=n0,vnet_hdr=maybe", &["vnet_hdr: 'maybe' is neither 'on' nor 'off'"]),
    ("-netdev tap,id=n0,vnet_hdr=true", &["vnet_hdr: 'true' is neither 'on' nor 'off'"]),
    (
        "-netdev tap,id=n0,ifname=sixteen-letters-",
        &["ifname: 'sixteen-letters-' is 16 characters long and Linux allows 15; shorten it"],
    ),
    ("-netdev tap,id=n0,ifname=", &["ifname: '' is not an interface name; write one like tap0"]),
    ("-netdev tap,id=n0,ifname=a/b", &["'a/b' is not an interface name"]),
    ("-netdev tap,id=n0,ifname=tap%d", &["'tap%d' is a pattern; leave ifname out"]),
    ("-netdev tap,id=n0,fd=x", &["fd: 'x' is not a number from 0"]),
    ("-netdev tap,id=n0,fd=-1", &["fd: '-1' is not a number"]),
    ("-netdev tap,id=n0,fd=1", &["fd: 1 is standard input, output or error"]),
    (
        "-netdev tap,id=n0,fd=4,ifname=tap0",
        &["fd= brings a tap that is already set up, so ifname= cannot go with it"],
    ),
    ("-netdev tap,id=n0,script=no,fd=4,vnet_hdr=on", &["so script=, vnet_hdr= cannot go with it; leave out"]),
    ("-netdev tap,id=n0,script=", &["script: the path is empty"]),
    (
        "-netdev tap,id=n0,address=10.0.2.2",
        &["address: '10.0.2.2' lacks the prefix length; did you mean 10.0.2.2/24?"],
    ),
    ("-netdev tap,id=n0,address=10.0.2.0/24", &["'10.0.2.0/24' cannot be the address of a host"]),
    ("-netdev tap,id=n0,address=10.0.2.255/24", &["cannot be the address of a host"]),
    ("-netdev tap,id=n0,address=224.0.0.1/24", &["cannot be the address of a host"]),
    ("-netdev tap,id=n0,address=10.0.2.2/33", &["'33' is not a prefix length; write 1 to 32"]),
    ("-netdev tap,id=n0,address=10.0.2.2/0", &["'0' is not a prefix length"]),
    ("-netdev tap,id=n0,address=fe80::1/64", &["is IPv6 and only IPv4 can be set here"]),
    ("-netdev tap,id=n0,address=10.0.2/24", &["is not an IPv4 address with prefix length"]),
    (
        "-netdev tap,id=n0 -netdev tap,id=n0",
        &["-netdev tap,id=n0: the netdev id 'n0' is taken by '-netdev tap,id=n0'"],
    ),
    (
        "-netdev tap,id=a,ifname=t0 -netdev tap,id=b,ifname=t0",
        &["this interface is taken by '-netdev tap,id=a,ifname=t0'"],
    ),
    ("-netdev tap,id=a,fd=5 -netdev tap,id=b,fd=5", &["this fd is taken by"]),
    (
        "-netdev tap,id=a,address=10.0.2.2/24 -netdev tap,id=b,address=10.0.2.2/24",
        &["this address is taken by", "10.0.3.2/24"],
    ),
    // JSON.
    (r#"-netdev {"type":"tap""#, &["this is not a JSON object", "or write it as key=value"]),
    (r#"-netdev {"type":"tap","id":"n0"}x"#, &["this is not a JSON object", "trailing"]),
    (r#"-netdev {"type":"tap","id":"a","id":"b"}"#, &["'id' is given twice"]),
    (r#"-netdev {"type":"tap","id":"n0","foo":1}"#, &["-netdev tap has no 'foo'"]),
    (
        r#"-netdev {"type":"tap","id":"n0","vnet_hdr":"on"}"#,
        &["vnet_hdr: JSON true or false expected, not '\"on\"'"],
    ),
    (r#"-netdev {"type":"tap","id":7}"#, &["id: JSON string expected, not '7'"]),
    (r#"-netdev {"type":7,"id":"n0"}"#, &["'type' is not text"]),
    (r#"-netdev {"type":"tap","id":"n0","fd":1.5}"#, &["fd: '1.5' is not a number"]),
    (r#"-netdev {"type":"tap","id":"n0","fd":{}}"#, &["fd: JSON number expected, not '{}'"]),
    (r#"-netdev {"type":"tap","id":null}"#, &["id: JSON string expected, not 'null'"]),
    (r#"-device {"netdev":"n0"}"#, &["the model is missing"]),
    // The machine.
    ("-m 0", &["-m 0: size: '0' is too little memory"]),
    ("-m 1", &["'1' is too little memory"]),
    ("-m 512X", &["-m 512X: size: '512X' is not a size"]),
    ("-m 512MB", &["'512MB' is not a size; did you mean '512M'?"]),
    ("-m 2gib", &["did you mean '2G'?"]),
    ("-m -512", &["'-512' is not a size"]),
    ("-m G", &["'G' is not a size"]),
    ("-m 1.2.3G", &["'1.2.3G' is not a size"]),
    ("-m 536870912", &["'536870912' is more than 1T", "did you mean 512M?"]),
    ("-m 99999999999999999999G", &["is not a size"]),
    ("-m 2T", &["'2T' is more than 1T"]),
    ("-m 1G,maxmem=2G", &["-m has no 'maxmem' here"]),
    ("-m slots=0", &["-m slots=0: the size is missing; write -m 512M"]),
    ("-smp 0", &["-smp 0: cpus: '0' is not a number from 1 to 32"]),
    ("-smp 33", &["'33' is not a number from 1 to 32"]),
    ("-smp two", &["'two' is not a number"]),
    ("-smp 2,sockets=2", &["-smp has no 'sockets' here; leave it out"]),
    ("-smp cores=1", &["the number of CPUs is missing; write -smp 2"]),
    ("-accel tcg", &["'tcg' is not an accelerator; the software CPU here is soft"]),
    ("-accel kmv", &["'kmv' is not an accelerator; did you mean 'kvm'?"]),
    ("-accel kvm,thread=single", &["accelerators take no options here"]),
    ("-accel kvm:kvm", &["'kvm' is given twice"]),
    ("-accel kvm:", &["'' is not an accelerator"]),
    ("-cpu qemu64", &["'qemu64' is not a CPU model here; write -cpu host or -cpu max"]),
    ("-cpu host,+x2apic", &["CPU flags ('+x2apic') cannot be chosen"]),
    ("-machine microvm", &["type: 'microvm' is not a machine; the one machine here is pc"]),
    ("-M pc-q35-7.2", &["there are no versions: write -machine pc"]),
    ("-machine q53", &["did you mean 'q35'?"]),
    ("-machine pc,kernel-unpack=me", &["kernel-unpack: 'me' is not a choice; write host or guest"]),
    ("-machine pc,usb=on", &["-machine has no 'usb' here"]),
    ("-machine accel=tcg", &["accel: 'tcg' is not an accelerator"]),
    // Serial ports, fw_cfg, time.
    (
        "-serial mon:pty",
        &["-serial mon:pty: only stdio is shared with the monitor; write mon:stdio or stdio"],
    ),
    ("-serial stdoi", &["'stdoi' is not a place for a serial port or a monitor; did you mean 'stdio'?"]),
    ("-serial udp::4444", &["QEMU's 'udp' is not here; use tcp:HOST:PORT or unix:PATH"]),
    ("-serial pty", &["QEMU's 'pty' is not here"]),
    ("-serial /dev/ttyS0", &["host devices are not here"]),
    ("-serial file:", &["file: the path is empty"]),
    ("-serial file", &["the path is missing; write file:PATH"]),
    ("-serial unix:", &["the path of the socket is missing"]),
    ("-serial unix:/s,server=yes", &["server: 'yes' is neither 'on' nor 'off'"]),
    ("-serial unix:/s,wait=on", &["only a server can wait for a client; add server=on"]),
    ("-serial unix:/s,reconnect=1", &["unix has no 'reconnect'"]),
    ("-serial stdio -serial stdio", &["stdio has a serial port already"]),
    ("-serial null -serial null -serial null", &["the machine has 2 serial ports and all are taken"]),
    ("-fw_cfg string=x", &["name= is missing"]),
    ("-fw_cfg etc/x,string=y", &["name: 'etc/x' is not under opt/"]),
    ("-fw_cfg opt/,string=y", &["'opt/' is not under opt/"]),
    ("-fw_cfg opt/x", &["the content is missing; add file=PATH or string=TEXT"]),
    ("-fw_cfg opt/x,string=y,file=z", &["file= and string= are both given"]),
    ("-fw_cfg opt/\u{e9},string=y", &["not printable ASCII"]),
    (
        "-fw_cfg opt/0123456789012345678901234567890123456789012345678901,string=y",
        &["is 56 bytes long; the device holds names of at most 55"],
    ),
    ("-fw_cfg opt/x,string=y -fw_cfg opt/x,string=z", &["there is already a file 'opt/x'"]),
    ("-timeout 0", &["-timeout 0: the run would end before it starts"]),
    ("-timeout soon", &["'soon' is not a time; write 90s, 1m30s or 500ms"]),
    ("-timeout 1m30", &["'1m30' is not a time"]),
    ("-timeout 90sec", &["'90sec' is not a time"]),
    ("-timeout -5", &["'-5' is not a time"]),
    ("-timeout 9000h", &["'9000h' is more than a year"]),
    ("-timeout 99999999999999999999", &["is not a time"]),
    ("-expect (a", &["-expect (a: the regular expression cannot be used: unclosed group; put \\ before"]),
    ("-expect (a{999}{999})", &["the regular expression cannot be used: ", "exceeds size limit"]),
    ("-expect within=5s", &["there is nothing to expect; write within=TIME,REGEX"]),
    ("-expect within=5s,", &["the expression is empty"]),
    ("-expect within=soon,x", &["within: 'soon' is not a time"]),
    ("-expect within=0,x", &["within: nothing is seen in no time"]),
];

fn check(words: &[&str], expected: &[&str]) {
    let message = refusal(words);
    assert_eq!(message.lines().count(), 1, "{words:?}: {message:?}");
    assert!(message.chars().all(|c| !c.is_control()), "{words:?}: {message:?}");
    let mut rest = message.as_str();
    for part in expected {
        let Some(at) = rest.find(part) else { panic!("{words:?}: {message:?} lacks {part:?}") };
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn firmware_gets_nothing_that_belongs_to_a_kernel() {
    for (words, option) in
        [(["-bios", "b", "-initrd", "i"], "-initrd"), (["-bios", "b", "-append", "quiet"], "-append")]
    {
        let line = refusal(&words);
        assert!(line.starts_with(&format!("{option}: there is no kernel for it")), "{line}");
    }
}

#[test]
fn firmware_has_the_isa_bridge_in_slot_1() {
    let line = refusal(&["-bios", "b", "-device", "e1000,addr=1"]);
    assert!(
        line.starts_with("-device e1000,addr=1: with -bios, slot 0x1 belongs to the ISA bridge"),
        "{line}"
    );
}

#[test]
fn every_broken_line_gets_its_own_one_line() {
    for (line, expected) in BROKEN {
        let words: Vec<&str> = ["-kernel", "k"].into_iter().chain(line.split(' ')).collect();
        check(&words, expected);
    }
}

#[test]
fn every_line_begins_with_the_option_that_is_wrong() {
    for (line, _) in BROKEN {
        let words: Vec<&str> = ["-kernel", "k"].into_iter().chain(line.split(' ')).collect();
        let message = refusal(&words);
        let (option, _) = message.split_once(": ").unwrap_or_else(|| panic!("{message}"));
        let option = option.split(' ').next().unwrap_or_default();
        assert!(line.contains(option), "{line}: {message}");
    }
}

#[test]
fn a_missing_kernel_says_what_to_add() {
    for words in [&[][..], &["-m", "512"]] {
        check(words, &["-kernel: there is nothing to boot; add -kernel FILE"]);
    }
}

#[test]
fn empty_words_and_values() {
    check(&["-kernel", "k", ""], &["'': this is no option"]);
    check(&["-kernel", ""], &["-kernel: the path is empty; write -kernel FILE"]);
    check(&["-kernel", "k", "-netdev", ""], &["the type of the backend is missing"]);
    check(&["-kernel", "k", "-device", ""], &["the model is missing"]);
    check(&["-kernel", "k", "-m", ""], &["the size is missing"]);
    check(&["-kernel", "k", "-serial", ""], &["'' is not a place for a serial port"]);
}

#[test]
fn what_was_typed_is_echoed_on_one_line() {
    check(
        &["-kernel", "k", "-m", "1\n2\u{1b}[0m"],
        &["-m 1\\n2\\u{1b}[0m: size: '1\\n2\\u{1b}[0m' is not a size"],
    );
    let long = format!("e1000,netdev={}", "x".repeat(5000));
    check(&["-kernel", "k", "-device", &long], &["is 5000 characters long; an id has at most 64"]);
    let (letters, digits) = ("y".repeat(100_000), "9".repeat(100_000));
    for words in [
        ["-device", &long],
        ["-append", &letters],
        ["-m", &format!("{digits}MB")],
        [&format!("-m{digits}"), ""],
        [&format!("-{letters}"), ""],
        [&letters, ""],
    ] {
        let message = refusal(&words);
        assert!(message.len() < 400, "{} bytes: {message}", message.len());
    }
}

#[cfg(unix)]
#[test]
fn values_that_are_not_utf8() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let words = [OsString::from("-append"), OsString::from_vec(vec![b'a', 0xff])];
    let message = minivmm::cli::parse(words.into_iter()).expect_err("not UTF-8").to_string();
    assert!(message.contains("the value is not UTF-8"), "{message}");
}

#[test]
fn the_bus_has_thirty_free_slots_and_with_firmware_one_less() {
    let words = |first: [&'static str; 2], nics: usize| -> Vec<&str> {
        first.into_iter().chain(std::iter::repeat_n(["-device", "e1000"], nics).flatten()).collect()
    };
    assert!(parse(&words(["-kernel", "k"], 30)).is_ok());
    check(&words(["-kernel", "k"], 31), &["the PCI bus has 30 slots for devices and all are taken"]);
    assert!(parse(&words(["-bios", "b"], 29)).is_ok());
    check(&words(["-bios", "b"], 30), &["the PCI bus has 29 slots for devices and all are taken"]);
}
