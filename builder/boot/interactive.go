package boot

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/term"
)

// escape begins a command to us, not to the guest: Ctrl-A, as in QEMU.
const escapeKey = 0x01

// Interactive starts a machine whose console is the caller's terminal, and
// returns when the machine is off or the person ends it. What there is to know
// goes to stderr, what the guest says to stdout. On a terminal every key goes
// to the guest, Ctrl-C too; Ctrl-A X ends the machine. The end of ctx does so
// in any case.
func Interactive(ctx context.Context, o Options, stdin io.Reader, stdout, stderr io.Writer) error {
	o.Console = both(o.Console, stdout)
	o, err := o.normal()
	if err != nil {
		return err
	}
	if o, err = o.fit(ctx); err != nil {
		return err
	}
	why := ""
	if o.Accel == "" {
		if o.Accel, why, err = Probe(ctx, o.Arch); err != nil {
			return err
		}
	}
	vm, err := Start(ctx, o)
	if err != nil {
		return err
	}
	defer vm.Close()

	file, _ := stdin.(*os.File)
	terminal := file != nil && term.IsTerminal(int(file.Fd()))
	fmt.Fprint(stderr, introduction(o, vm, why, terminal))
	if terminal {
		state, err := term.MakeRaw(int(file.Fd()))
		if err != nil {
			return fmt.Errorf("preparing the terminal: %w", err)
		}
		// Guests leave colours and modes behind; a reset of the pen is enough
		// to read on.
		defer func() {
			_ = term.Restore(int(file.Fd()), state)
			fmt.Fprint(stderr, "\x1b[0m\x1b[?25h\n")
		}()
	}
	left := make(chan struct{})
	go func() { // it may outlive us, in a read that nothing can end
		if keys(vm.stdin, stdin, terminal) {
			close(left)
		}
	}()
	select {
	case <-vm.done:
		return vm.err
	case <-left:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("running %s: %w", vm.name, context.Cause(ctx))
	}
}

// introduction is what a person has to know before the first line of the
// guest.
func introduction(o Options, vm *VM, why string, terminal bool) string {
	s := fmt.Sprintf("starting %s on %s with %s firmware", filepath.Base(o.Image), vm.Arch, vm.Firmware)
	if vm.Accel == TCG {
		s += ", emulated: many times slower than a real machine"
		if why != "" {
			s += " (no KVM: " + why + ")"
		}
	}
	if o.Dir == "" {
		s += "\nwhat it writes is forgotten at its end\n"
	} else {
		s += "\nwhat it writes is kept in " + o.Dir + "\n"
	}
	for _, f := range vm.Forwards {
		s += fmt.Sprintf("port %d of the guest is 127.0.0.1:%d", f.Guest, f.Host)
		switch f.Guest {
		case 22:
			s += fmt.Sprintf("    ssh -p %d -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no debian@127.0.0.1", f.Host)
		case 80:
			s += fmt.Sprintf("    http://127.0.0.1:%d/", f.Host)
		case 443:
			s += fmt.Sprintf("   https://127.0.0.1:%d/", f.Host)
		}
		s += "\n"
	}
	if o.Seed == "" {
		s += "no seed is attached: the machine learns no domain, and nobody can log in\n"
	}
	if terminal {
		return s + "Ctrl-A X ends the machine, Ctrl-A Ctrl-A types Ctrl-A, every other key goes to the guest\n"
	}
	return s + "Ctrl-C ends the machine\n"
}

// keys copies what is typed to the guest until it ends, and reports whether
// the person ended the machine. Only a terminal has the escape key.
func keys(to io.Writer, from io.Reader, terminal bool) (left bool) {
	buf := make([]byte, 4096)
	escaped := false
	for {
		n, err := from.Read(buf)
		var out []byte
		for _, b := range buf[:n] {
			switch {
			case !terminal:
				out = append(out, b)
			case escaped && (b == 'x' || b == 'X'):
				return true
			case escaped && b == escapeKey:
				out = append(out, b)
				escaped = false
			case escaped:
				out = append(out, escapeKey, b)
				escaped = false
			case b == escapeKey:
				escaped = true
			default:
				out = append(out, b)
			}
		}
		if _, err := to.Write(out); err != nil {
			return false
		}
		if err != nil {
			return false
		}
	}
}
