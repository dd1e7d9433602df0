package boot

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// The files of a machine in its directory.
const (
	overlayName  = "disk.qcow2"
	varsName     = "vars.fd"
	socketName   = "qmp"
	firmwareName = "firmware.log" // what SeaBIOS says
)

// arguments is QEMU's command line for options that are normal and files that
// are in dir.
func arguments(o Options, fw firmware, dir string) []string {
	m := machines[o.Arch]
	args := []string{m.qemu, "-no-user-config", "-nodefaults", "-display", "none"}
	add := func(a ...string) { args = append(args, a...) }
	if m.screen {
		add("-vga", "std")
	}

	board := m.board
	if o.Accel == KVM {
		board += m.kvm
	}
	guarded := o.Arch == AMD64 && o.Firmware == SecureBoot
	if guarded {
		board += ",smm=on"
	}
	add("-machine", board)
	add(o.Accel.arguments(o.Arch, o.CPU)...)
	add("-smp", strconv.Itoa(o.CPUs), "-m", strconv.Itoa(o.Memory))

	// The console is QEMU's own input and output: nothing to connect to, and
	// no byte of it is missed.
	add("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console")
	add("-chardev", "socket,id=qmp,server=on,wait=off,path="+comma(filepath.Join(dir, socketName)), "-mon", "chardev=qmp,mode=control")

	switch o.Firmware {
	case BIOS:
		// SeaBIOS speaks on the screen, which nobody sees, and here.
		add("-chardev", "file,id=firmware,path="+comma(filepath.Join(dir, firmwareName)),
			"-device", "isa-debugcon,iobase=0x402,chardev=firmware")
	case UEFI, SecureBoot:
		if guarded {
			// Only code in system management mode may change the variables, and
			// OVMF cannot suspend to memory in that mode.
			add("-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1")
		}
		add("-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+comma(fw.code),
			"-drive", "if=pflash,unit=1,format=raw,file="+comma(filepath.Join(dir, varsName)))
	}

	// What is on the disk when QEMU ends is no one's only copy: never sync.
	overlay := comma(filepath.Join(dir, overlayName))
	if o.Writes == "" {
		add("-drive", "if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap,file="+overlay,
			"-device", "virtio-blk-pci,drive=disk,bootindex=1")
	} else {
		// The guest's flushes stop at the recorder, so that it may see them. The
		// log's super block is written after each entry: its count is always right.
		add("-blockdev", "driver=qcow2,node-name=overlay,discard=unmap,cache.no-flush=on,file.driver=file,file.discard=unmap,file.cache.no-flush=on,file.filename="+overlay,
			"-blockdev", "driver=file,node-name=log,cache.no-flush=on,filename="+comma(o.Writes),
			"-blockdev", "driver=blklogwrites,node-name=disk,discard=unmap,file=overlay,log=log,log-sector-size=512,log-super-update-interval=1",
			"-device", "virtio-blk-pci,drive=disk,bootindex=1,write-cache=on")
	}
	drives := o.Drives
	if o.Seed != "" {
		drives = append([]Drive{{Path: o.Seed, Format: "raw", ReadOnly: true}}, drives...)
	}
	for i, d := range drives {
		id := fmt.Sprintf("drive%d", i)
		s := "if=none,id=" + id + ",format=" + d.Format
		if d.ReadOnly {
			s += ",readonly=on"
		} else {
			s += ",cache=unsafe"
		}
		add("-drive", s+",file="+comma(d.Path), "-device", "virtio-blk-pci,drive="+id)
	}

	add("-object", "rng-random,id=rng,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng")

	if o.Network != None {
		s := "user,id=net"
		if o.Network == Cut {
			s += ",restrict=on"
		}
		for _, f := range o.Forwards {
			s += fmt.Sprintf(",hostfwd=tcp:%s:%d-:%d", o.Address, f.Host, f.Guest)
		}
		// No ROM: nothing here boots from the network.
		add("-netdev", s, "-device", "virtio-net-pci,netdev=net,romfile=")
	}
	return append(args, o.Args...)
}

// comma doubles commas, which end a value otherwise.
func comma(s string) string { return strings.ReplaceAll(s, ",", ",,") }
