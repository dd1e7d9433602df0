package boot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prose-im/prose-image/builder/host"
)

// A VM is a machine that was started. It ends by itself, by [VM.Shutdown], by
// [VM.Close] or with the context that it was started with.
type VM struct {
	Arch     Arch
	Firmware Firmware
	Accel    Accel
	Forwards []Forward // with the ports that were left to us

	name    string // of the image, for errors
	address string // of the host, where ports are forwarded
	log     string
	dir     string
	keepDir bool
	process *host.Process
	console *console
	monitor *monitor
	stdin   *os.File
	cancel  context.CancelFunc
	closing sync.Once

	done chan struct{} // closed when QEMU has ended
	err  error         // why; set before done is closed
}

// Start starts a machine and returns when QEMU runs it. The caller closes it.
func Start(ctx context.Context, o Options) (_ *VM, err error) {
	o, err = o.normal()
	if err != nil {
		return nil, err
	}
	if o, err = o.fit(ctx); err != nil {
		return nil, err
	}
	for _, tool := range []string{machines[o.Arch].qemu, "qemu-img"} {
		if err := host.Look(tool); err != nil {
			return nil, err
		}
	}
	fw, err := findFirmware(o.Arch, o.Firmware)
	if err != nil {
		return nil, err
	}
	if o.Accel == "" {
		if o.Accel, _, err = Probe(ctx, o.Arch); err != nil {
			return nil, err
		}
	}
	vm := &VM{Arch: o.Arch, Firmware: o.Firmware, Accel: o.Accel, name: filepath.Base(o.Image), address: o.Address, log: o.Log, done: make(chan struct{})}
	var undo []func()
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				undo[i]()
			}
		}
	}()

	if vm.dir, vm.keepDir, err = directory(o.Dir); err != nil {
		return nil, err
	}
	undo = append(undo, vm.removeDir)
	if err := prepare(ctx, o, vm.dir); err != nil {
		return nil, err
	}

	out := o.Console
	closeLog := func() {}
	if o.Log != "" {
		f, err := os.OpenFile(o.Log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return nil, fmt.Errorf("keeping the console's log: %w", err)
		}
		closeLog = func() { f.Close() }
		out = both(out, f)
	}
	vm.console = newConsole(out)
	stdin, w, err := os.Pipe()
	if err != nil {
		closeLog()
		return nil, fmt.Errorf("starting a machine: %w", err)
	}
	vm.stdin = w

	run, cancel := context.WithCancel(ctx)
	vm.cancel = cancel
	p, err := host.Start(run, host.Command{Args: arguments(o, fw, vm.dir), Stdin: stdin, Stdout: vm.console, Tied: true})
	stdin.Close()
	if err != nil {
		cancel()
		w.Close()
		closeLog()
		return nil, err
	}
	vm.process = p
	go func() {
		vm.err = p.Wait()
		closeLog()
		close(vm.done)
	}()
	undo = append(undo, func() { vm.Close() })

	vm.monitor, err = dial(ctx, filepath.Join(vm.dir, socketName), vm.done)
	if err == nil {
		vm.Forwards, err = vm.monitor.forwards(ctx, o.Forwards)
	}
	if err != nil {
		// If QEMU has refused its arguments, it says so itself, and better.
		select {
		case <-vm.done:
			if vm.err != nil {
				err = vm.err
			}
		case <-time.After(time.Second):
		}
		return nil, fmt.Errorf("starting %s: %w", vm.name, err)
	}
	return vm, nil
}

func both(a, b io.Writer) io.Writer {
	if a == nil {
		return b
	}
	return io.MultiWriter(a, b)
}

// directory is where the files of a machine go: the one that is asked for,
// which is kept, or a new one. It lies on a disk where it can: an overlay can
// grow to the size of the guest's disk.
func directory(asked string) (dir string, kept bool, err error) {
	if asked != "" {
		if dir, err = filepath.Abs(asked); err == nil {
			err = os.MkdirAll(dir, 0o700)
		}
	} else {
		parent := os.Getenv("TMPDIR")
		if parent == "" {
			parent = "/var/tmp"
		}
		dir, err = os.MkdirTemp(parent, "prose-boot-")
	}
	if err != nil {
		return "", false, fmt.Errorf("making a directory for the machine: %w", err)
	}
	// sun_path of unix(7) has 108 bytes with the zero at its end.
	if socket := filepath.Join(dir, socketName); len(socket) > 107 {
		if asked == "" {
			os.Remove(dir)
		}
		return "", false, fmt.Errorf("making a directory for the machine: %s is too long for a socket: set TMPDIR to a shorter path", dir)
	}
	return dir, asked != "", nil
}

func (vm *VM) removeDir() {
	if vm.keepDir {
		os.Remove(filepath.Join(vm.dir, socketName))
		return
	}
	os.RemoveAll(vm.dir)
}

// Close ends the machine, as if its power was cut, and removes its files. It
// may be called more than once and after the machine has ended.
func (vm *VM) Close() error {
	vm.closing.Do(func() {
		vm.cancel()
		<-vm.done // at most ten seconds, then QEMU is killed
		vm.stdin.Close()
		if vm.monitor != nil {
			vm.monitor.conn.Close()
		}
		vm.removeDir()
	})
	return nil
}

// Done is closed when the machine has ended.
func (vm *VM) Done() <-chan struct{} { return vm.done }

// Err is why the machine has ended: nil when it was switched off by itself or
// has not ended.
func (vm *VM) Err() error {
	select {
	case <-vm.done:
		return vm.err
	default:
		return nil
	}
}

// CPU is how much time of the host's processors the machine has had since it
// was started. Unlike the time that has passed, other work on the host hardly
// changes it.
func (vm *VM) CPU() (time.Duration, error) { return vm.process.CPU() }

// Console is what the console has said, or the last mebibyte of it, without
// escape sequences.
func (vm *VM) Console() string { return vm.console.String() }

// Send types a line on the console.
func (vm *VM) Send(line string) error {
	if _, err := io.WriteString(vm.stdin, line+"\r"); err != nil {
		return fmt.Errorf("typing on the console of %s: %w", vm.name, err)
	}
	return nil
}

// Port is the port of the host that leads to a port of the guest, or 0.
func (vm *VM) Port(guest int) int {
	for _, f := range vm.Forwards {
		if f.Guest == guest {
			return f.Host
		}
	}
	return 0
}

// Shutdown presses the power button and waits until the machine is off.
func (vm *VM) Shutdown(ctx context.Context) error {
	if _, err := vm.monitor.run(ctx, "system_powerdown", nil); err != nil {
		return err
	}
	within := vm.Accel.Budget(Shutdown)
	select {
	case <-vm.done:
		return vm.err
	case <-ctx.Done():
		return vm.waitError("the end", vm.name, context.Cause(ctx), context.Cause(ctx).Error())
	case <-time.After(within):
		return vm.waitError("the end", vm.name, context.DeadlineExceeded, within.String()+" are over")
	}
}

// trouble is what keeps a machine from getting any further although it has not
// ended, or empty.
func (vm *VM) trouble(ctx context.Context) string {
	// SeaBIOS says it on the screen and here, not on the console.
	data, err := os.ReadFile(filepath.Join(vm.dir, firmwareName))
	if err == nil && strings.Contains(string(data), "No bootable device.") {
		return "the firmware found nothing to boot"
	}
	answer, err := vm.monitor.run(ctx, "query-status", nil)
	if err != nil {
		return "" // it is ending
	}
	var state struct {
		Status string `json:"status"`
	}
	if json.Unmarshal(answer, &state) != nil {
		return ""
	}
	return stopped[state.Status]
}

// stopped are the states (RunState in QEMU's qapi/run-state.json) that a
// machine does not leave.
var stopped = map[string]string{
	"io-error":       "the guest's disk cannot be written: is the directory of its overlay full?",
	"internal-error": "QEMU gave up: KVM cannot run every instruction of this guest; use tcg",
	"guest-panicked": "the guest's kernel panicked",
	"shutdown":       "the machine is off",
}
