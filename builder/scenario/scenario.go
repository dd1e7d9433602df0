// Package scenario boots an image, stands in for the internet around it and
// tells whether the machine does what its owner was promised.
//
// # What a scenario is
//
// A TOML file ([Parse]): what the owner gives the machine, what DNS says when it
// is switched on, and a list of steps. A step is one line of words, as a shell
// would split them; the table [Commands] lists them. Each step is one test case
// of the report ([Result]), and the first that fails ends the scenario.
//
// # The world
//
// [Run] wants a network namespace with nothing in it ([host.Command] makes one),
// so that it may use real ports and addresses that look public. There the
// machine has [Address], to which QEMU leads its ports, and around it are an
// ACME authority (Pebble), a name server (pebble-challtestsrv) and a metadata
// service. What the guest sends to its own public address goes out through QEMU
// and comes in through the forwarded port, as it would on a cloud.
package scenario

import (
	"time"

	"github.com/prose-im/prose-image/builder/boot"
)

// A Scenario is a checked scenario file.
type Scenario struct {
	Name     string          // of the file, without its end
	About    string          // one sentence
	Firmware []boot.Firmware // it runs once with each
	Domain   string          // {domain}; the names of the Pod are made from it
	Disk     int64           // GiB
	Memory   int64           // MiB
	CPUs     int64
	Budget   time.Duration // of one step with KVM; see [boot.Accel.Scale]
	Login    bool          // the first step is to log in; else the first that has to
	DNS      string        // what DNS says of the domain at power-on: one of dnsStates
	Settings map[string]any
	UserData string // instead of Settings
	Steps    []Step
}

// A Step is one line of a scenario.
type Step struct {
	Line    string        // as it was written
	Within  time.Duration // try again for so long, with KVM; 0: once
	Command *Command
	Args    []string // with placeholders
}

// defaults is the scenario of the empty file.
func defaults() *Scenario {
	return &Scenario{
		Firmware: []boot.Firmware{boot.BIOS},
		Domain:   "chat.example",
		Disk:     8,
		Memory:   2048,
		CPUs:     2,
		Budget:   5 * time.Minute,
		Login:    true,
		DNS:      "right",
	}
}
