package debian

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/prose-im/prose-image/builder/host"
)

// A machine is what is told apart of an architecture's programs, and how this
// machine may come to run them.
type machine struct {
	id   uint16 // e_machine of ELF
	exit []byte // instructions that end a program with success
	qemu string // the emulator's name in binfmt_misc
}

// machines are Debian's architectures that images are baked for.
var machines = map[string]machine{
	"amd64": {62, []byte("\xb8\x3c\x00\x00\x00\x31\xff\x0f\x05"), "qemu-x86_64"},               // mov eax, 60; xor edi, edi; syscall
	"arm64": {183, []byte("\x00\x00\x80\xd2\xa8\x0b\x80\xd2\x01\x00\x00\xd4"), "qemu-aarch64"}, // mov x0, 0; mov x8, 93; svc 0
}

// foreign reports whether the processor of this machine is of another kind.
func foreign(arch string) bool { return arch != runtime.GOARCH }

// A ForeignError says that this machine cannot run the programs of an image's
// architecture, which maintainer scripts are.
type ForeignError struct{ Arch, Reason string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("this machine cannot run programs for %s, and Debian's maintainer scripts are such: %s", e.Arch, e.Reason)
}

// Hint is how it can.
func (e *ForeignError) Hint() string {
	return "as root: apt-get install qemu-user-static binfmt-support; and where nothing starts services, such as in a container: " +
		"mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; update-binfmts --enable " + machines[e.Arch].qemu
}

// CanRun reports whether this machine runs programs for arch in a chroot, by
// its processor or by an emulator that the kernel calls: nil, or a
// [ForeignError].
func CanRun(ctx context.Context, arch string) error {
	m, ok := machines[arch]
	if !ok {
		return &ForeignError{arch, "nothing is known of it"}
	}
	if !foreign(arch) {
		return nil
	}
	dir, err := os.MkdirTemp("", "prose-image-foreign-")
	if err != nil {
		return fmt.Errorf("looking whether programs for %s run: %w", arch, err)
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "exit")
	if err := os.WriteFile(name, m.program(), 0o755); err != nil {
		return fmt.Errorf("looking whether programs for %s run: %w", arch, err)
	}
	err = host.Run(ctx, host.Command{Args: []string{name}})
	switch {
	case errors.Is(err, syscall.ENOEXEC):
		return &ForeignError{arch, "the kernel knows no emulator for them"}
	case err != nil:
		return fmt.Errorf("looking whether programs for %s run: %w", arch, err)
	}
	// In a chroot the emulator is not at its path: the kernel must hold it open.
	// Where the list is not mounted the chroot itself will tell.
	entries, err := filepath.Glob(binfmt + "/*")
	if err != nil {
		return fmt.Errorf("reading the kernel's list of emulators: %w", err)
	}
	for _, name := range entries {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL) {
			continue // "register" can only be written
		}
		if err != nil {
			return fmt.Errorf("reading the kernel's list of emulators: %w", err)
		}
		if e := parseEmulator(string(text)); e.runs(m.program()) && !e.fixed {
			return &ForeignError{arch, fmt.Sprintf("their emulator %s is not found in a chroot, for it is registered without the flag F", e.path)}
		}
	}
	return nil
}

// binfmt is where the kernel lists what it calls for which programs: see
// Documentation/admin-guide/binfmt-misc.rst of Linux.
const binfmt = "/proc/sys/fs/binfmt_misc"

// program is the smallest for the architecture: it ends at once. ELF-64: a
// header of 64 bytes, one segment header of 56, the instructions.
func (m machine) program() []byte {
	const base, start = 0x400000, 64 + 56
	le := binary.LittleEndian
	b := []byte("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00") // 64 bits, little-endian
	b = le.AppendUint16(b, 2)                                              // an executable
	b = le.AppendUint16(b, m.id)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, base+start) // entry
	b = le.AppendUint64(b, 64)         // segment headers
	b = le.AppendUint64(b, 0)
	b = le.AppendUint32(b, 0)
	for _, n := range []uint16{64, 56, 1, 0, 0, 0} { // sizes and counts of headers
		b = le.AppendUint16(b, n)
	}
	size := uint64(start + len(m.exit))
	b = le.AppendUint32(b, 1) // loaded
	b = le.AppendUint32(b, 5) // to read and execute
	for _, n := range []uint64{0, base, base, size, size, 0x10000} {
		b = le.AppendUint64(b, n)
	}
	return append(b, m.exit...)
}

// An emulator is an entry of binfmt_misc.
type emulator struct {
	enabled     bool
	path        string
	fixed       bool // flag F: open since it was registered
	offset      int
	magic, mask []byte
}

// parseEmulator reads an entry as the kernel shows it; of a file that is none,
// nothing is set.
func parseEmulator(text string) (e emulator) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch key {
		case "enabled":
			e.enabled = true
		case "interpreter":
			e.path = value
		case "flags:":
			e.fixed = strings.Contains(value, "F")
		case "offset":
			fmt.Sscan(value, &e.offset)
		case "magic":
			e.magic, _ = hex.DecodeString(value)
		case "mask":
			e.mask, _ = hex.DecodeString(value)
		}
	}
	return e
}

// runs reports whether the kernel calls the emulator for a program.
func (e emulator) runs(program []byte) bool {
	if !e.enabled || len(e.magic) == 0 || e.offset < 0 || e.offset > len(program)-len(e.magic) {
		return false
	}
	start := bytes.Clone(program[e.offset : e.offset+len(e.magic)])
	for i := range min(len(start), len(e.mask)) {
		start[i] &= e.mask[i]
	}
	return bytes.Equal(start, e.magic)
}
