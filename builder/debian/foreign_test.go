package debian

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// What the kernel shows of Debian's entry for arm64, and of one for another
// architecture.
const (
	aarch64 = "enabled\ninterpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P\nflags: PF\noffset 0\n" +
		"magic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
	riscv64 = "enabled\ninterpreter /usr/bin/qemu-riscv64\nflags: F\noffset 0\n" +
		"magic 7f454c460201010000000000000000000200f300\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
)

func TestParseEmulator(t *testing.T) {
	for _, c := range []struct {
		name, text  string
		runs, fixed bool
	}{
		{"debian's", aarch64, true, true},
		{"without F", strings.Replace(aarch64, "PF", "P", 1), true, false},
		{"disabled", strings.Replace(aarch64, "enabled", "disabled", 1), false, true},
		{"another architecture", riscv64, false, true},
		{"later in the file", strings.Replace(aarch64, "offset 0", "offset 400", 1), false, true},
		{"by extension", "enabled\ninterpreter /usr/bin/jexec\nflags: \nextension .jar\n", false, false},
		{"the switch of all", "enabled\n", false, false},
		{"nothing", "", false, false},
	} {
		e := parseEmulator(c.text)
		if e.runs(machines["arm64"].program()) != c.runs || e.fixed != c.fixed {
			t.Errorf("%s: %+v", c.name, e)
		}
	}
	if got := parseEmulator(aarch64).path; got != "/usr/libexec/qemu-binfmt/aarch64-binfmt-P" {
		t.Errorf("its path is %q", got)
	}
	if parseEmulator(aarch64).runs(machines["amd64"].program()) {
		t.Error("the emulator of arm64 takes programs for amd64")
	}
}

func FuzzParseEmulator(f *testing.F) {
	f.Add(aarch64)
	f.Add(strings.Replace(aarch64, "offset 0", "offset -9", 1))
	f.Add("enabled\nmagic 00\nmask 0\noffset 9223372036854775807")
	f.Fuzz(func(t *testing.T, text string) {
		parseEmulator(text).runs(machines["arm64"].program())
	})
}

// The programs are judged by file(1), and the native one by the kernel.
func TestProgram(t *testing.T) {
	for arch, want := range map[string]string{"amd64": "x86-64", "arm64": "ARM aarch64"} {
		name := filepath.Join(t.TempDir(), arch)
		if err := os.WriteFile(name, machines[arch].program(), 0o755); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("file", "--brief", name).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "ELF 64-bit LSB executable, "+want) || !strings.Contains(string(out), "statically linked") {
			t.Errorf("%s: %s, %v", arch, out, err)
		}
		err = exec.Command(name).Run()
		if native := arch == runtime.GOARCH; native && err != nil {
			t.Errorf("%s: %v", arch, err)
		}
		// Of another architecture it runs exactly where we say so.
		said := CanRun(t.Context(), arch)
		var foreign *ForeignError
		switch {
		case err == nil && said != nil && !(errors.As(said, &foreign) && strings.Contains(said.Error(), "flag F")),
			err != nil && !errors.As(said, &foreign):
			t.Errorf("%s: running it gave %v, and we said %v", arch, err, said)
		}
	}
	err := CanRun(t.Context(), "m68k")
	var foreign *ForeignError
	if !errors.As(err, &foreign) {
		t.Errorf("m68k: %v", err)
	}
}

func TestForeignHint(t *testing.T) {
	e := &ForeignError{Arch: "arm64", Reason: "x"}
	if !strings.Contains(e.Error(), "programs for arm64") || !strings.Contains(e.Hint(), "apt-get install qemu-user-static") || !strings.HasSuffix(e.Hint(), "qemu-aarch64") {
		t.Errorf("%s\n%s", e.Error(), e.Hint())
	}
}
