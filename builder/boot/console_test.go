package boot

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func TestStripper(t *testing.T) {
	tests := []struct{ in, want string }{
		{"a\r\nb\x00c\n", "a\nbc\n"},
		{"[\x1b[0;32m  OK  \x1b[0m] Reached", "[  OK  ] Reached"},
		{"\x1b[!p\x1b]104\x07\x1b[?7h\x1b[6nvm login: ", "vm login: "},
		{"\x1b]0;title\x1b\\text", "text"},
		{"\x1b(Bx\x1b=y\x1b7z", "xyz"},
		{"\x1b]cut short\nnext line", "next line"},
		{"\x1bP+q\x1b\\dcs", "dcs"},
	}
	for _, tt := range tests {
		var whole, pieces stripper
		if got := string(whole.append(nil, []byte(tt.in))); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
		var b []byte
		for i := range len(tt.in) {
			b = pieces.append(b, []byte(tt.in[i:i+1]))
		}
		if string(b) != tt.want {
			t.Errorf("%q byte by byte: %q, want %q", tt.in, b, tt.want)
		}
	}
}

func FuzzStripper(f *testing.F) {
	f.Add([]byte("\x1b[1;2Hx\x1b]a\x07"), 3)
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		var whole, halves stripper
		want := whole.append(nil, p)
		cut = min(max(cut, 0), len(p))
		got := halves.append(halves.append(nil, p[:cut]), p[cut:])
		if !bytes.Equal(got, want) || bytes.ContainsAny(got, "\x1b\r") {
			t.Errorf("%q cut at %d: %q and %q", p, cut, got, want)
		}
	})
}

func TestFindUsesUp(t *testing.T) {
	c := newConsole(nil)
	login := regexp.MustCompile(`(?m)^\S+ login: `)
	find := func(want bool) {
		t.Helper()
		if found, trouble, _ := c.find(login); found != want || trouble != "" {
			t.Errorf("found %v, trouble %q, want %v; console %q", found, trouble, want, c)
		}
	}
	find(false)
	c.Write([]byte("the last login: never\r\n"))
	find(false)
	c.Write([]byte("\x1b[?7hpro"))
	c.Write([]byte("se login: "))
	find(true)
	find(false)
	c.Write([]byte("root\r\nprose login: "))
	find(true)
}

func TestFindDeadEnds(t *testing.T) {
	for _, text := range []string{
		"[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs",
		"Verification failed: (0x1A) Security Violation",
		"error: unknown filesystem.\r\ngrub rescue> ",
		"   Minimal BASH-like line editing is supported. For the first word,",
		"No init found. Try passing init= bootarg.\r\n(initramfs) ",
		"BdsDxe: failed to start Boot0002 \"EFI Internal Shell\" from Fv(7CB8BDC9)/FvFile(7C04A583): Security Violation\r\n",
		"BdsDxe: No bootable option or device was found.\r\n",
	} {
		c := newConsole(nil)
		c.Write([]byte("\r\n" + text))
		if found, trouble, _ := c.find(LoginPrompt); found || trouble == "" {
			t.Errorf("%q: found %v, trouble %q", text, found, trouble)
		}
		// Whoever waits for just that gets it.
		if found, _, _ := c.find(regexp.MustCompile(regexp.QuoteMeta(strings.TrimRight(text, "\r\n ")[:8]))); !found {
			t.Errorf("%q: not found", text)
		}
	}
	c := newConsole(nil)
	c.Write([]byte("RAS: Correctable Errors collector initialized.\r\nGPT: Use GNU Parted to correct GPT errors.\r\nBegin: Loading (initramfs)\n"))
	if _, trouble, _ := c.find(LoginPrompt); trouble != "" {
		t.Errorf("harmless lines are trouble: %s", trouble)
	}
}

func TestConsoleForgets(t *testing.T) {
	var out bytes.Buffer
	c := newConsole(&out)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	for range 4 * keep / len(line) {
		c.Write(line)
		c.find(regexp.MustCompile(`x\n`))
	}
	c.Write([]byte("the end\n"))
	if n := len(c.String()); n > 2*keep || n < keep {
		t.Errorf("%d bytes are kept", n)
	}
	if out.Len() != 4*keep+8 {
		t.Errorf("%d bytes were passed on", out.Len())
	}
	if found, _, _ := c.find(regexp.MustCompile(`(?m)^the end$`)); !found {
		t.Error("the end is not found")
	}
	if got := c.last(1); got != "  the end" {
		t.Errorf("last line %q", got)
	}
}

func TestKeys(t *testing.T) {
	tests := []struct {
		in       string
		terminal bool
		want     string
		left     bool
	}{
		{"ls\r\x03", true, "ls\r\x03", false},
		{"ab\x01xcd", true, "", true},
		{"\x01X", true, "", true},
		{"\x01\x01x", true, "\x01x", false},
		{"\x01y", true, "\x01y", false},
		{"\x01x", false, "\x01x", false},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		left := keys(&out, strings.NewReader(tt.in), tt.terminal)
		if left != tt.left || (!left && out.String() != tt.want) {
			t.Errorf("%q: %q, left %v; want %q, %v", tt.in, out.String(), left, tt.want, tt.left)
		}
	}
}
