package boot

import "time"

// Accel is what runs a guest's instructions.
type Accel string

const (
	KVM Accel = "kvm" // the processor
	TCG Accel = "tcg" // an emulator
)

// arguments chooses the accelerator and the processor. The smallest model is
// the quickest to emulate; software built for x86-64-v2 or later needs another.
func (a Accel) arguments(arch Arch, cpu string) []string {
	if a == KVM {
		fill(&cpu, "host")
		return []string{"-accel", "kvm", "-cpu", cpu}
	}
	fill(&cpu, machines[arch].cpu)
	return []string{"-accel", "tcg,thread=multi,tb-size=512", "-cpu", cpu}
}

// A Span is one stretch of a machine's life that somebody waits for.
type Span string

const (
	ToFirmware Span = "firmware" // start to the first sign of the firmware or the boot loader
	ToLogin    Span = "login"    // start to the login prompt
	ToSSH      Span = "ssh"      // start to the first SSH session
	ToSettled  Span = "settled"  // start to every unit and cloud-init done, Docker included
	ToReady    Span = "ready"    // start to a Pod whose ports answer
	Command    Span = "command"  // one short command in the guest
	Shutdown   Span = "shutdown" // power button to off
)

// budgets say how long a span may take: about twice what an untuned image
// needs on two cores that others use too.
var budgets = map[Span]struct{ tcg, kvm time.Duration }{
	ToFirmware: {60 * time.Second, 20 * time.Second},
	ToLogin:    {300 * time.Second, 60 * time.Second},
	ToSSH:      {360 * time.Second, 80 * time.Second},
	ToSettled:  {600 * time.Second, 120 * time.Second},
	ToReady:    {600 * time.Second, 150 * time.Second},
	Command:    {120 * time.Second, 30 * time.Second},
	Shutdown:   {180 * time.Second, 60 * time.Second},
}

// Scale is how long something may take that may take d with KVM.
func (a Accel) Scale(d time.Duration) time.Duration {
	if a == KVM {
		return d
	}
	return 4 * d
}

// Budget is how long a span may take at most.
func (a Accel) Budget(s Span) time.Duration {
	b, ok := budgets[s]
	if !ok {
		b = budgets[ToReady]
	}
	if a == KVM {
		return b.kvm
	}
	return b.tcg
}
