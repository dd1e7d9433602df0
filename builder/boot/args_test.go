package boot

import (
	"strings"
	"testing"
)

func TestArguments(t *testing.T) {
	const (
		start   = "qemu-system-x86_64 -no-user-config -nodefaults -display none -vga std"
		tcg     = " -accel tcg,thread=multi,tb-size=512 -cpu qemu64"
		two     = " -smp 2 -m 2048"
		console = " -chardev stdio,id=console,signal=off -serial chardev:console" +
			" -chardev socket,id=qmp,server=on,wait=off,path=/d/qmp -mon chardev=qmp,mode=control"
		seabios = " -chardev file,id=firmware,path=/d/firmware.log -device isa-debugcon,iobase=0x402,chardev=firmware"
		disk    = " -drive if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap,file=/d/disk.qcow2 -device virtio-blk-pci,drive=disk,bootindex=1"
		rng     = " -object rng-random,id=rng,filename=/dev/urandom -device virtio-rng-pci,rng=rng"
		card    = " -device virtio-net-pci,netdev=net,romfile="
	)
	basic := Options{Arch: AMD64, Firmware: BIOS, Accel: TCG, CPUs: 2, Memory: 2048, Network: Open, Address: "127.0.0.1"}
	tests := []struct {
		name string
		with func(*Options)
		fw   firmware
		want string
	}{
		{"plain", func(o *Options) {}, firmware{},
			start + " -machine q35" + tcg + two + console + seabios + disk + rng + " -netdev user,id=net" + card},
		{"kvm", func(o *Options) { o.Accel, o.CPUs, o.Memory = KVM, 4, 512 }, firmware{},
			start + " -machine q35 -accel kvm -cpu host -smp 4 -m 512" + console + seabios + disk + rng + " -netdev user,id=net" + card},
		{"another processor", func(o *Options) { o.CPU = "Haswell-v4" }, firmware{},
			start + " -machine q35 -accel tcg,thread=multi,tb-size=512 -cpu Haswell-v4" + two + console + seabios + disk + rng + " -netdev user,id=net" + card},
		{"uefi", func(o *Options) { o.Firmware = UEFI }, firmware{"/c.fd", "/v.fd"},
			start + " -machine q35" + tcg + two + console +
				" -drive if=pflash,unit=0,format=raw,readonly=on,file=/c.fd -drive if=pflash,unit=1,format=raw,file=/d/vars.fd" +
				disk + rng + " -netdev user,id=net" + card},
		{"secure boot", func(o *Options) { o.Firmware = SecureBoot }, firmware{"/c.fd", "/v.fd"},
			start + " -machine q35,smm=on" + tcg + two + console +
				" -global driver=cfi.pflash01,property=secure,value=on -global ICH9-LPC.disable_s3=1" +
				" -drive if=pflash,unit=0,format=raw,readonly=on,file=/c.fd -drive if=pflash,unit=1,format=raw,file=/d/vars.fd" +
				disk + rng + " -netdev user,id=net" + card},
		{"seed and drives", func(o *Options) {
			o.Seed = "/a,b.iso"
			o.Drives = []Drive{{Path: "/x.qcow2", Format: "qcow2"}, {Path: "/y", Format: "raw", ReadOnly: true}}
		}, firmware{},
			start + " -machine q35" + tcg + two + console + seabios + disk +
				" -drive if=none,id=drive0,format=raw,readonly=on,file=/a,,b.iso -device virtio-blk-pci,drive=drive0" +
				" -drive if=none,id=drive1,format=qcow2,cache=unsafe,file=/x.qcow2 -device virtio-blk-pci,drive=drive1" +
				" -drive if=none,id=drive2,format=raw,readonly=on,file=/y -device virtio-blk-pci,drive=drive2" +
				rng + " -netdev user,id=net" + card},
		{"writes recorded", func(o *Options) { o.Writes = "/w,1.log" }, firmware{},
			start + " -machine q35" + tcg + two + console + seabios +
				" -blockdev driver=qcow2,node-name=overlay,discard=unmap,cache.no-flush=on,file.driver=file,file.discard=unmap,file.cache.no-flush=on,file.filename=/d/disk.qcow2" +
				" -blockdev driver=file,node-name=log,cache.no-flush=on,filename=/w,,1.log" +
				" -blockdev driver=blklogwrites,node-name=disk,discard=unmap,file=overlay,log=log,log-sector-size=512,log-super-update-interval=1" +
				" -device virtio-blk-pci,drive=disk,bootindex=1,write-cache=on" +
				rng + " -netdev user,id=net" + card},
		{"network cut, with forwards", func(o *Options) { o.Network, o.Forwards = Cut, []Forward{{2222, 22}, {0, 80}} }, firmware{},
			start + " -machine q35" + tcg + two + console + seabios + disk + rng +
				" -netdev user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:0-:80" + card},
		{"another address", func(o *Options) { o.Address, o.Forwards = "192.0.2.1", []Forward{{80, 80}} }, firmware{},
			start + " -machine q35" + tcg + two + console + seabios + disk + rng +
				" -netdev user,id=net,hostfwd=tcp:192.0.2.1:80-:80" + card},
		{"arm64", func(o *Options) { o.Arch, o.Firmware = ARM64, UEFI }, firmware{"/c.fd", "/v.fd"},
			"qemu-system-aarch64 -no-user-config -nodefaults -display none -machine virt -accel tcg,thread=multi,tb-size=512 -cpu cortex-a72" + two + console +
				" -drive if=pflash,unit=0,format=raw,readonly=on,file=/c.fd -drive if=pflash,unit=1,format=raw,file=/d/vars.fd" +
				disk + rng + " -netdev user,id=net" + card},
		{"arm64, kvm, secure boot", func(o *Options) { o.Arch, o.Accel, o.Firmware = ARM64, KVM, SecureBoot }, firmware{"/c.fd", "/v.fd"},
			"qemu-system-aarch64 -no-user-config -nodefaults -display none -machine virt,gic-version=host -accel kvm -cpu host" + two + console +
				" -drive if=pflash,unit=0,format=raw,readonly=on,file=/c.fd -drive if=pflash,unit=1,format=raw,file=/d/vars.fd" +
				disk + rng + " -netdev user,id=net" + card},
		{"no network, more arguments", func(o *Options) { o.Network, o.Args = None, []string{"-no-reboot"} }, firmware{},
			start + " -machine q35" + tcg + two + console + seabios + disk + rng + " -no-reboot"},
	}
	for _, tt := range tests {
		o := basic
		tt.with(&o)
		if got := strings.Join(arguments(o, tt.fw, "/d"), " "); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
}

func TestParseUsernet(t *testing.T) {
	const text = `Hub -1 (net):
  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
  TCP[ESTABLISHED]   20       127.0.0.1 40101       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  12       127.0.0.1 40101       10.0.2.15    22     0     0
  TCP[HOST_FORWARD]  13       127.0.0.1  8080       10.0.2.15    80     0     0
  TCP[HOST_FORWARD]  14       127.0.0.1 40102       10.0.2.15    80     0     0
`
	tests := []struct {
		wanted, want []Forward
		err          string
	}{
		{nil, nil, ""},
		{[]Forward{{0, 22}}, []Forward{{40101, 22}}, ""},
		{[]Forward{{0, 80}, {8080, 80}, {0, 22}}, []Forward{{40102, 80}, {8080, 80}, {40101, 22}}, ""},
		{[]Forward{{0, 443}}, nil, "none leads to 443"},
		{[]Forward{{0, 22}, {0, 22}}, nil, "none leads to 22"},
	}
	for _, tt := range tests {
		got, err := parseUsernet(text, tt.wanted)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v: error %v, want %q", tt.wanted, err, tt.err)
			}
			continue
		}
		if err != nil || len(got) != len(tt.want) {
			t.Errorf("%v: %v, %v; want %v", tt.wanted, got, err, tt.want)
			continue
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("%v: %v, want %v", tt.wanted, got, tt.want)
			}
		}
	}
}
