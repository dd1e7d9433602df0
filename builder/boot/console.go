package boot

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

// keep is how much of a console's text stays in memory, in bytes: some ten
// boots. The log file has all of it.
const keep = 1 << 20

// A console takes what the serial port says and lets others wait for it.
type console struct {
	out io.Writer // gets everything as it is; may be nil

	mu      sync.Mutex
	strip   stripper
	text    []byte        // without escape sequences and carriage returns
	seen    int           // how much of text earlier waits have used up
	changed chan struct{} // closed when text grows
}

func newConsole(out io.Writer) *console {
	return &console{out: out, changed: make(chan struct{})}
}

// Write never fails: what the guest says must not stop QEMU.
func (c *console) Write(p []byte) (int, error) {
	if c.out != nil {
		_, _ = c.out.Write(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = c.strip.append(c.text, p)
	if len(c.text) > 2*keep {
		cut := len(c.text) - keep
		c.text = append(c.text[:0], c.text[cut:]...)
		c.seen = max(0, c.seen-cut)
	}
	close(c.changed)
	c.changed = make(chan struct{})
	return len(p), nil
}

// find looks for a pattern in what no earlier find has used up. If it is not
// there, trouble is the meaning of a line that says it will never be, or empty.
func (c *console) find(pattern *regexp.Regexp) (found bool, trouble string, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rest := c.text[c.seen:]
	if m := pattern.FindIndex(rest); m != nil {
		c.seen += m[1]
		return true, "", nil
	}
	for _, d := range deadEnds {
		if strings.Contains(string(rest), d.text) {
			return false, d.means, nil
		}
	}
	return false, "", c.changed
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.text)
}

// last is the last lines that are not empty.
func (c *console) last(n int) string {
	var lines []string
	for line := range strings.Lines(c.String()) {
		if s := strings.TrimRight(line, " \n"); s != "" {
			lines = append(lines, "  "+s)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// deadEnds are words after which a machine waits for a person.
var deadEnds = []struct{ text, means string }{
	{"Kernel panic - not syncing", "the guest's kernel panicked"},
	{"EFI Internal Shell", "the firmware found nothing to boot"},
	{"Security Violation", "Secure Boot refused what it was to start"},
	{"BdsDxe: No bootable option or device was found", "the firmware found nothing to boot"},
	{"grub rescue>", "GRUB did not find the root file system"},
	{"Minimal BASH-like line editing is supported", "GRUB found no configuration, or one that it could not use"},
	{"\n(initramfs) ", "the initrd did not find the root file system"},
	{"You are in emergency mode", "the guest is in emergency mode"},
	{"Cannot open access to console, the root account is locked", "the guest is in emergency mode"},
}

// A WaitError is the end of a wait for something that did not come.
type WaitError struct {
	For  string // what was waited for
	On   string // where
	Why  string // why no longer
	Last string // the last lines of the console; may be empty
	Log  string // file with the whole console; may be empty
	Err  error  // cause; may be nil
}

func (e *WaitError) Error() string {
	s := fmt.Sprintf("waiting for %s on %s: %s", e.For, e.On, e.Why)
	if e.Last == "" {
		s += "; the console has said nothing"
	} else {
		s += "; the last lines of the console were:\n" + e.Last
	}
	if e.Log != "" {
		s += "\nall of them are in " + e.Log
	}
	return s
}

func (e *WaitError) Unwrap() error { return e.Err }

// LoginPrompt is what a serial getty says once a machine is up. Kernel messages
// may come before it on the same console, not on the same line.
var LoginPrompt = regexp.MustCompile(`(?m)^[A-Za-z0-9.-]+ login: `)

// Wait waits until the console has said something that no earlier Wait has
// found. It ends early, with an error, when the machine ends or says that it
// will not get any further. Lines end in \n and escape sequences are gone:
// patterns can be anchored with (?m)^ and $, and should be, as kernels write
// "error" and "failed" for no reason.
func (vm *VM) Wait(ctx context.Context, pattern *regexp.Regexp, within time.Duration) error {
	end := time.NewTimer(within)
	defer end.Stop()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	fail := func(err error, format string, args ...any) error {
		return vm.waitError(fmt.Sprintf("%q", pattern), "the console of "+vm.name, err, fmt.Sprintf(format, args...))
	}
	for {
		found, trouble, changed := vm.console.find(pattern)
		if found {
			return nil
		}
		if trouble == "" {
			trouble = vm.trouble(ctx)
		}
		if trouble != "" {
			return fail(nil, "%s", trouble)
		}
		select {
		case <-changed:
		case <-look.C:
		case <-ctx.Done():
			return fail(context.Cause(ctx), "%v", context.Cause(ctx))
		case <-vm.done:
			// The last words may have come together with the end.
			if found, _, _ := vm.console.find(pattern); found {
				return nil
			}
			return fail(vm.err, "the machine has ended%s", because(vm.err))
		case <-end.C:
			return fail(context.DeadlineExceeded, "%s are over", within)
		}
	}
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + ")"
}

func (vm *VM) waitError(what, on string, err error, why string) *WaitError {
	return &WaitError{For: what, On: on, Why: why, Last: vm.console.last(12), Log: vm.log, Err: err}
}

// A stripper takes escape sequences (ECMA-48) and carriage returns out of text
// that comes in pieces.
type stripper struct{ state byte }

func (s *stripper) append(to, p []byte) []byte {
	const (
		plain = iota
		escape
		csi // ESC [ ... until a letter or the like
		osc // ESC ] ... until BEL or ESC \
		oscEscape
		one // one more byte
	)
	for _, b := range p {
		switch s.state {
		case plain:
			switch {
			case b == 0x1b:
				s.state = escape
			case b != '\r' && b != 0:
				to = append(to, b)
			}
		case escape:
			switch {
			case b == '[':
				s.state = csi
			case b == ']', b == 'P', b == '_', b == '^', b == 'X':
				s.state = osc
			case b >= 0x20 && b <= 0x2f:
				s.state = one
			default:
				s.state = plain
			}
		case csi:
			if b >= 0x40 && b <= 0x7e {
				s.state = plain
			}
		case osc:
			switch b {
			case 0x07, '\n': // no sequence has a line end in it: it was cut short
				s.state = plain
			case 0x1b:
				s.state = oscEscape
			}
		case oscEscape, one:
			s.state = plain
		}
	}
	return to
}
