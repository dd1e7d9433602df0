package boot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/host"
)

// guest is a boot sector that says "hello" on the serial port, then gives back
// every byte it gets, and switches the machine off at a "q".
//
//	xor ax,ax; mov ds,ax; cld; mov si,hello
//	say:  lodsb; test al,al; jz get; mov dx,3f8; out dx,al; jmp say
//	get:  mov dx,3fd; in al,dx; test al,1; jz get
//	      mov dx,3f8; in al,dx; cmp al,'q'; jz off; out dx,al; jmp get
//	off:  mov dx,604; mov ax,2000; out dx,ax; hlt
//	hello:
func guest() []byte {
	code := "\x31\xc0\x8e\xd8\xfc\xbe\x2e\x7c" +
		"\xac\x84\xc0\x74\x06\xba\xf8\x03\xee\xeb\xf5" +
		"\xba\xfd\x03\xec\xa8\x01\x74\xf8" +
		"\xba\xf8\x03\xec\x3c\x71\x74\x03\xee\xeb\xed" +
		"\xba\x04\x06\xb8\x00\x20\xef\xf4" +
		"\r\n\x1b[1mhello\x1b[0m\r\n\x00"
	b := make([]byte, 1<<20)
	copy(b, code)
	copy(b[510:], "\x55\xaa")
	return b
}

func image(t *testing.T, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// temporary makes a directory where machines put their files, and checks that
// they leave none.
func temporary(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
			t.Errorf("left behind: %v, %v", names, err)
		}
		if pid := using(dir); pid != "" {
			t.Errorf("process %s is still there", pid)
		}
	})
	return dir
}

// using finds a process, except zombies, with text in its command line.
func using(text string) string {
	names, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && bytes.Contains(b, []byte(text)) {
			return strings.Split(name, "/")[2] + ": " + strings.ReplaceAll(string(b), "\x00", " ")
		}
	}
	return ""
}

func start(t *testing.T, o Options) *VM {
	t.Helper()
	if o.Accel == "" {
		o.Accel = TCG // what a boot sector is quick enough on
	}
	fill(&o.Memory, 64)
	vm, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { vm.Close() })
	return vm
}

const soon = 30 * time.Second

func TestConversation(t *testing.T) {
	temporary(t)
	content := guest()
	disk := image(t, content)
	log := filepath.Join(t.TempDir(), "serial.log")
	vm := start(t, Options{Image: disk, Log: log, Size: 8 << 30})
	ctx := t.Context()
	if err := vm.Wait(ctx, regexp.MustCompile(`(?m)^hello$`), soon); err != nil {
		t.Fatal(err)
	}
	if err := vm.Send("abc"); err != nil {
		t.Fatal(err)
	}
	if err := vm.Wait(ctx, regexp.MustCompile("abc"), soon); err != nil {
		t.Fatal(err)
	}
	if err := vm.Wait(ctx, regexp.MustCompile("abc"), 100*time.Millisecond); err == nil {
		t.Error("one answer was found twice")
	}
	if err := vm.Send("q"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-vm.Done():
	case <-time.After(soon):
		t.Fatal("the machine is still on")
	}
	if err := vm.Err(); err != nil {
		t.Error(err)
	}
	err := vm.Wait(ctx, regexp.MustCompile("more"), soon)
	if err == nil || !strings.Contains(err.Error(), `waiting for "more" on the console of disk.raw: the machine has ended; the last lines of the console were:`) {
		t.Errorf("error %v", err)
	}
	vm.Close()
	if got, err := os.ReadFile(log); err != nil || !strings.Contains(string(got), "\x1b[1mhello\x1b[0m\r\n") || !strings.Contains(string(got), "abc") {
		t.Errorf("log %q, %v", got, err)
	}
	if got, err := os.ReadFile(disk); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the image has changed: %v", err)
	}
}

func TestWaitEnds(t *testing.T) {
	temporary(t)
	vm := start(t, Options{Image: image(t, guest()), Log: filepath.Join(t.TempDir(), "log")})
	if err := vm.Wait(t.Context(), regexp.MustCompile("hello"), soon); err != nil {
		t.Fatal(err)
	}
	err := vm.Wait(t.Context(), LoginPrompt, 1500*time.Millisecond)
	var w *WaitError
	if !errors.As(err, &w) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v", err)
	}
	want := "waiting for \"(?m)^[A-Za-z0-9.-]+ login: \" on the console of disk.raw: 1.5s are over; the last lines of the console were:\n  hello\nall of them are in " + vm.log
	if err.Error() != want {
		t.Errorf("error\n%v\nwant\n%s", err, want)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted"))
	if err := vm.Wait(ctx, LoginPrompt, soon); err == nil || !strings.Contains(err.Error(), "disk.raw: interrupted; the last") {
		t.Errorf("error %v", err)
	}
	// This guest does not hear the power button.
	ctx2, cancel2 := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel2()
	if err := vm.Shutdown(ctx2); err == nil || !strings.Contains(err.Error(), "waiting for the end on disk.raw: ") {
		t.Errorf("error %v", err)
	}
}

func TestNothingToBoot(t *testing.T) {
	for _, fw := range []Firmware{BIOS, UEFI} { // the third takes long and says the same
		t.Run(string(fw), func(t *testing.T) {
			temporary(t)
			vm := start(t, Options{Image: image(t, make([]byte, 1<<20)), Firmware: fw, Memory: 256})
			begin := time.Now()
			err := vm.Wait(t.Context(), LoginPrompt, vm.Accel.Budget(ToFirmware))
			if err == nil || !strings.Contains(err.Error(), "the firmware found nothing to boot") {
				t.Errorf("error after %v: %v", time.Since(begin), err)
			}
		})
	}
}

func TestStopped(t *testing.T) {
	for state, want := range map[string]string{"io-error": "full", "internal-error": "KVM", "running": "", "paused": ""} {
		if got := stopped[state]; (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q", state, got)
		}
	}
}

func TestForwards(t *testing.T) {
	temporary(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).Port
	disk := image(t, guest())
	_, err = Start(t.Context(), Options{Image: disk, Accel: TCG, Memory: 64, Forwards: []Forward{{port, 22}}})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("Could not set up host forwarding rule 'tcp:127.0.0.1:%d-:22'", port)) {
		t.Errorf("error %v", err)
	}
	for _, network := range []Network{Open, Cut} {
		vm := start(t, Options{Image: disk, Network: network, Forwards: []Forward{{0, 22}, {0, 80}}})
		if vm.Port(22) == 0 || vm.Port(80) == 0 || vm.Port(22) == vm.Port(80) || vm.Port(443) != 0 {
			t.Errorf("forwards %v", vm.Forwards)
		}
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", vm.Port(22)))
		if err != nil {
			t.Errorf("port %d: %v", vm.Port(22), err)
		} else {
			conn.Close()
		}
		vm.Close()
	}
}

func TestSSHEnds(t *testing.T) {
	temporary(t)
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	vm := start(t, Options{Image: image(t, guest()), Forwards: []Forward{{0, 22}}})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	begin := time.Now()
	_, err = vm.SSH(ctx, "debian", key)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("waiting for SSH as debian on 127.0.0.1:%d: context deadline exceeded (last answer: ", vm.Port(22))) {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
}

// TestDirKeeps: a second start in the same directory has what the first has
// written.
func TestDirKeeps(t *testing.T) {
	temporary(t)
	dir := filepath.Join(t.TempDir(), "kept")
	disk := image(t, guest())
	var inode [2]uint64
	for i := range inode {
		vm := start(t, Options{Image: disk, Dir: dir})
		vm.Close()
		fi, err := os.Stat(filepath.Join(dir, overlayName))
		if err != nil {
			t.Fatal(err)
		}
		inode[i] = fi.Sys().(*syscall.Stat_t).Ino
	}
	if inode[0] != inode[1] {
		t.Error("the overlay was made again")
	}
	if _, err := os.Stat(filepath.Join(dir, socketName)); err == nil {
		t.Error("the socket is still there")
	}
}

func TestStartRefuses(t *testing.T) {
	temporary(t)
	disk := image(t, guest())
	tests := []struct {
		name string
		o    Options
		want string
	}{
		{"no image", Options{}, "no image is named"},
		{"missing image", Options{Image: "/nowhere/x.raw"}, "/nowhere/x.raw: no such file"},
		{"empty image", Options{Image: image(t, nil)}, "is no disk image"},
		{"a text", Options{Image: image(t, []byte("not a disk\n"))}, "is no disk image"},
		{"directory", Options{Image: t.TempDir()}, "is a directory"},
		{"missing seed", Options{Image: disk, Seed: "/nowhere/seed.iso"}, "/nowhere/seed.iso: no such file"},
		{"missing drive", Options{Image: disk, Drives: []Drive{{Path: "/nowhere/d"}}}, "/nowhere/d: no such file"},
		{"firmware", Options{Image: disk, Firmware: "efi"}, `firmware "efi" is not one of bios, uefi, secureboot`},
		{"architecture", Options{Image: disk, Arch: "riscv64"}, `architecture "riscv64" is not one of amd64, arm64`},
		{"no BIOS", Options{Image: disk, Arch: ARM64, Firmware: BIOS}, `machines of arm64 have no firmware "bios"`},
		{"network", Options{Image: disk, Network: "off"}, `network "off" is not one of open, cut, none`},
		{"format", Options{Image: disk, Format: "vhd"}, `format "vhd" is not one of raw, qcow2`},
		{"ports", Options{Image: disk, Forwards: []Forward{{70000, 22}}}, "ports are 1 to 65535"},
		{"port twice", Options{Image: disk, Forwards: []Forward{{2222, 22}, {2222, 80}}}, "port 2222 of the host is forwarded twice"},
		{"forwards without network", Options{Image: disk, Network: None, Forwards: []Forward{{0, 22}}}, "no network"},
		{"smaller disk", Options{Image: disk, Size: 4096}, "a disk of 4096 bytes is smaller than " + disk + ", which has 1048576"},
		{"not qcow2", Options{Image: disk, Format: "qcow2"}, "reading the partition table of disk.raw: running qemu-img"},
		{"arguments", Options{Image: disk, Args: []string{"-no-such-option"}}, "-no-such-option: invalid option"},
		{"log", Options{Image: disk, Log: "/nowhere/log"}, "keeping the console's log: open /nowhere/log"},
		{"long directory", Options{Image: disk, Dir: filepath.Join(t.TempDir(), strings.Repeat("x", 100))}, "too long for a socket"},
	}
	for _, tt := range tests {
		tt.o.Accel = TCG
		vm, err := Start(t.Context(), tt.o)
		if err == nil {
			vm.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestMissingTools(t *testing.T) {
	empty := t.TempDir()
	t.Setenv("PATH", empty)
	if _, err := os.Stat("/usr/sbin/qemu-img"); err == nil {
		t.Fatal("QEMU is in /usr/sbin, where this test cannot hide it")
	}
	_, err := Start(t.Context(), Options{Image: image(t, guest()), Accel: TCG})
	if m, ok := host.IsMissing(err); !ok || m.Hint() != "apt-get install qemu-system-x86" {
		t.Errorf("error %v", err)
	}
	_, err = Start(t.Context(), Options{Image: image(t, guest()), Arch: ARM64, Accel: TCG})
	if m, ok := host.IsMissing(err); !ok || m.Hint() != "apt-get install qemu-system-arm" {
		t.Errorf("error %v", err)
	}
	_, _, err = Probe(t.Context(), AMD64)
	if m, ok := host.IsMissing(err); !ok || m.Hint() != "apt-get install qemu-system-x86" {
		t.Errorf("error %v", err)
	}
}

func TestProbe(t *testing.T) {
	temporary(t)
	ctx := t.Context()
	for _, arch := range Arches {
		if err := runs(ctx, arch, TCG, probeTime); err != nil {
			t.Errorf("emulation of %s: %v", arch, err)
		}
		if a, why, err := Probe(ctx, arch); err != nil || string(arch) != runtime.GOARCH && (a != TCG || why != "the image is for "+string(arch)+", this machine is "+runtime.GOARCH) {
			t.Errorf("Probe for %s = %q, %q, %v", arch, a, why, err)
		}
	}
	a, why, err := Probe(ctx, AMD64)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s", a, why)
	if (a == KVM) != (why == "") || (a != KVM && a != TCG) {
		t.Errorf("Probe = %q, %q", a, why)
	}
	if _, err := os.Stat("/dev/kvm"); err != nil && a == KVM {
		t.Error("KVM without /dev/kvm")
	}
	if err := runs(ctx, AMD64, TCG, time.Millisecond); err == nil || !strings.Contains(err.Error(), "it did nothing for 1ms") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	cancel(errors.New("interrupted"))
	if _, _, err := Probe(ctx, AMD64); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("error %v", err)
	}
}

func TestBudgets(t *testing.T) {
	if len(budgets) != 7 {
		t.Errorf("%d spans", len(budgets))
	}
	for s, b := range budgets {
		if b.kvm <= 0 || b.tcg <= b.kvm || TCG.Budget(s) != b.tcg || KVM.Budget(s) != b.kvm {
			t.Errorf("%s: %v", s, b)
		}
	}
}

// TestMain is also the program that [TestInterrupted] and [TestTerminal] run.
func TestMain(m *testing.M) {
	disk := os.Getenv("BOOT_TEST_INTERACTIVE")
	if disk == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var stdin io.Reader = os.Stdin
	if os.Getenv("BOOT_TEST_KEYS") == "" {
		r, w := io.Pipe() // nobody types
		defer w.Close()
		stdin = r
	}
	err := Interactive(ctx, Options{Image: disk, Accel: TCG, Memory: 64, Forwards: []Forward{{0, 22}}}, stdin, os.Stdout, os.Stderr)
	fmt.Fprintln(os.Stderr, "ended:", err)
}

func TestInterrupted(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := t.TempDir()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "TMPDIR="+dir, "BOOT_TEST_INTERACTIVE="+image(t, guest()))
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(soon, func() { cmd.Process.Kill() })
			defer late.Stop()
			var text []byte
			for buf := make([]byte, 100); !bytes.Contains(text, []byte("hello")); {
				n, err := stdout.Read(buf)
				text = append(text, buf[:n]...)
				if err != nil {
					t.Fatalf("the guest said %q, then %v\n%s", text, err, stderr.String())
				}
			}
			if using(dir) == "" {
				t.Fatal("no machine is running")
			}
			cmd.Process.Signal(sig)
			cmd.Wait()
			for end := time.Now().Add(soon); using(dir) != ""; time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("still running: %s", using(dir))
				}
			}
			if sig == syscall.SIGKILL {
				return // nothing can take the files away after that
			}
			if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
				t.Errorf("left behind: %v, %v", names, err)
			}
			for _, want := range []string{"starting disk.raw on amd64 with bios firmware, emulated", "port 22 of the guest is 127.0.0.1:", "ssh -p ",
				"no seed is attached", "Ctrl-C ends the machine", "ended: running disk.raw: "} {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("stderr does not say %q:\n%s", want, stderr.String())
				}
			}
		})
	}
}

// TestTerminal: on a terminal Ctrl-C goes to the guest, and Ctrl-A X ends the
// machine and gives the terminal back.
func TestTerminal(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command("script", "--quiet", "--return", "--flush", "--command", os.Args[0]+"; stty -a", "/dev/null")
	cmd.Env = append(os.Environ(), "TMPDIR="+dir, "BOOT_TEST_KEYS=1", "BOOT_TEST_INTERACTIVE="+image(t, guest()))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("script (package bsdutils): %v", err)
	}
	late := time.AfterFunc(soon, func() { cmd.Process.Kill() })
	defer late.Stop()
	var text []byte
	until := func(want string) {
		t.Helper()
		for buf := make([]byte, 1000); !bytes.Contains(text, []byte(want)); {
			n, err := stdout.Read(buf)
			text = append(text, buf[:n]...)
			if err != nil {
				t.Fatalf("waiting for %q on the terminal: %v; it shows\n%s", want, err, text)
			}
		}
	}
	until("hello")
	io.WriteString(stdin, "\x03ab\x01\x01c")
	until("\x03ab\x01c") // the guest gives it back, and the terminal does not
	io.WriteString(stdin, "\x01x")
	until("ended: <nil>")
	until("\nisig icanon ")
	until(" echo ")
	stdin.Close()
	cmd.Wait()
	if !bytes.Contains(text, []byte("Ctrl-A X ends the machine")) {
		t.Errorf("the terminal shows\n%s", text)
	}
	if pid := using(dir); pid != "" {
		t.Errorf("process %s is still there", pid)
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) > 0 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}
