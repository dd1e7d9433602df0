package boot

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/prose-im/prose-image/builder/host"
)

// Probe finds the accelerator of this machine. KVM counts only if a program
// runs under it: /dev/kvm may be there without leave to open it, and what a
// cloud offers as nested virtualization may start machines that come to a stop
// at the first unusual instruction. Without KVM, why says what was in the way.
// An error means that QEMU itself does not run.
func Probe(ctx context.Context, arch Arch) (a Accel, why string, err error) {
	if !arch.native() {
		return TCG, fmt.Sprintf("the image is for %s, this machine is %s", arch, runtime.GOARCH), host.Look(machines[arch].qemu)
	}
	if err := runs(ctx, arch, KVM, probeTime); err != nil {
		if _, missing := host.IsMissing(err); missing || ctx.Err() != nil {
			return "", "", err
		}
		return TCG, reason(err), nil
	}
	return KVM, "", nil
}

// probeTime is some hundred times what the program needs.
const probeTime = 10 * time.Second

// program is the probe's for amd64, at the start of a 64 KiB ROM at 0xf0000: it goes to
// 64-bit mode as a kernel does, runs an SSE2 and, if the processor has it, a
// BMI2 instruction (instruction emulators stop at its VEX prefix), counts to
// fifty million (they would take minutes) and says "ok" on port 0x402.
var program = []string{
	"fa fc 31c0 8ed8 8ec0",               // cli; cld; ds = es = 0
	"bf0010 b90018 f3ab",                 // clear 0x1000 to 0x4000, the page tables
	"66c70600100320 0000",                // level 4 at 0x1000 -> 0x2000
	"66c70600200330 0000",                // level 3 -> 0x3000
	"66c70600308300 0000",                // level 2: one page of 2 MiB
	"2e660f0116b800",                     // lgdt cs:gdtr
	"0f20e0 660d20060000 0f22e0",         // cr4: PAE, SSE
	"66b800100000 0f22d8",                // cr3 = 0x1000
	"66b9800000c0 0f32",                  // EFER
	"660d00010000 0f30",                  // ... long mode
	"0f20c0 660d01000080 0f22c0",         // cr0: paging, protected mode
	"66ea6b000f000800",                   // jump to the next line, 64 bits
	"31c0 0fa2 83f807 7214",              // cpuid has no leaf 7: go to pxor
	"b807000000 31c9 0fa2 0fbae308 7305", // nor BMI2: go to pxor
	"c4e279f7c0",                         // shlx eax, eax, eax
	"660fefc0",                           // pxor xmm0, xmm0
	"b980f0fa02 ffc9 75fc",               // count ecx down
	"66ba0204 b06f ee b06b ee",           // say "ok"
	"f4 ebfd",                            // halt
	"660f1f440000",                       // (to a multiple of 8)
	"0000000000000000 ffff0000009aaf00",  // gdt: null, 64-bit code
	"0f00 a8000f00",                      // gdtr: 16 bytes at 0xf00a8
}

// programARM64 is the probe's for arm64, whose processors start at the begin of
// the ROM and of memory: it runs an instruction on vectors, counts to fifty million and says
// "ok" on the serial port at 0x9000000.
var programARM64 = []string{
	"0006a0d2 401018d5 df3f03d5", // mov x0, 3 << 20; msr cpacr_el1, x0; isb: vectors are allowed
	"201c206e",                   // eor v0.16b, v1.16b, v0.16b
	"01109ed2 415fa0f2",          // mov x1, 0xf080; movk x1, 0x2fa << 16
	"210400d1 e1ffffb5",          // sub x1, x1, 1; cbnz x1, -4
	"0220a1d2",                   // mov x2, 0x9000000
	"e30d8052 43000039",          // mov w3, 'o'; strb w3, [x2]
	"630d8052 43000039",          // mov w3, 'k'; strb w3, [x2]
	"7f2003d5 ffffff17",          // wfi; again
}

// rom is the program as firmware.
func rom(arch Arch) []byte {
	text := program
	if arch == ARM64 {
		text = programARM64
	}
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(text, ""), " ", ""))
	if err != nil {
		panic("BUG: the probe's program is not hex: " + err.Error())
	}
	b = append(b, make([]byte, 0x10000-len(b))...)
	if arch == AMD64 {
		// The processor starts 16 bytes below the end.
		copy(b[0xfff0:], "\xea\x00\x00\x00\xf0") // jump to f000:0000
	}
	return b
}

// runs starts a machine without disks and waits until the program in its
// firmware says "ok".
func runs(ctx context.Context, arch Arch, a Accel, within time.Duration) error {
	fail := func(err error) error { return fmt.Errorf("starting a machine with %s: %w", a, err) }
	dir, err := os.MkdirTemp("", "prose-probe-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "rom")
	if err := os.WriteFile(image, rom(arch), 0o600); err != nil {
		return fail(err)
	}
	silence := fmt.Errorf("it did nothing for %v", within)
	run, stop := context.WithTimeoutCause(ctx, within, silence)
	defer stop()
	run, cancel := context.WithCancelCause(run)
	defer cancel(nil)
	heard := &listener{word: []byte("ok"), found: func() { cancel(nil) }}
	m := machines[arch]
	board, out := m.board, []string{"-device", "isa-debugcon,iobase=0x402,chardev=out"}
	if a == KVM {
		board += m.kvm
	}
	if arch == ARM64 {
		out = []string{"-serial", "chardev:out"}
	}
	args := []string{m.qemu, "-no-user-config", "-nodefaults", "-display", "none", "-machine", board}
	args = append(args, a.arguments(arch, "")...)
	args = append(args, "-m", "32", "-bios", image, "-chardev", "stdio,id=out,signal=off")
	args = append(args, out...)
	err = host.Run(run, host.Command{
		Args:   args,
		Stdout: heard,
		Stderr: &listener{word: []byte(kvmTrouble), found: func() { cancel(errors.New("KVM gave up: it cannot run every instruction")) }},
		Tied:   true,
	})
	switch {
	case heard.done():
		return nil
	case err == nil:
		return fail(errors.New("QEMU ended by itself"))
	case run.Err() != nil:
		return fail(context.Cause(run))
	}
	return fail(err)
}

// kvmTrouble is what QEMU says when it has stopped a machine for good.
const kvmTrouble = "KVM internal error"

// reason is the line of QEMU's that says most.
func reason(err error) string {
	var e *host.Error
	if errors.As(err, &e) {
		for line := range strings.Lines(e.Output) {
			if s := strings.TrimSpace(line); s != "" {
				_, rest, found := strings.Cut(s, ": ")
				if found && strings.HasPrefix(s, "qemu-system-") {
					return rest
				}
				return s
			}
		}
	}
	if err := errors.Unwrap(err); err != nil {
		return err.Error()
	}
	return err.Error()
}

// listener calls found once word was written to it.
type listener struct {
	word  []byte
	found func()

	mu    sync.Mutex
	text  []byte
	heard bool
}

func (l *listener) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.heard {
		l.text = append(l.text, p...)
		if bytes.Contains(l.text, l.word) {
			l.heard, l.text = true, nil
			l.found()
		}
	}
	return len(p), nil
}

func (l *listener) done() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard
}
