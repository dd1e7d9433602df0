package timeline

import (
	"bytes"
	"encoding/xml"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// A boot whose kernel started 10 s after power-on, told at 110 s.
const told = `100.00 150.00
clock=1800000100.500000000
uptime=100.50
UserspaceTimestampMonotonic=5000000
Id=docker.service InactiveExitTimestampMonotonic=20000000 ActiveEnterTimestampMonotonic=30500000 ActiveExitTimestampMonotonic=0
Id=prose.service InactiveExitTimestampMonotonic=0 ActiveEnterTimestampMonotonic=0 ActiveExitTimestampMonotonic=0
Id=late.service InactiveExitTimestampMonotonic=95000000 ActiveEnterTimestampMonotonic=96000000 ActiveExitTimestampMonotonic=0
container=/prose-api-1 2027-01-15T08:00:40Z 2027-01-15T08:00:45.5Z
-- Boot 0123 --
[   50.000000] host prose-firstboot[812]: asking for a certificate: one | two
[   60.250000] host guide: loads the images
[   60.250000] host guide: at once
`

func TestParse(t *testing.T) {
	got, err := Parse(told, 110, 90)
	if err != nil {
		t.Fatal(err)
	}
	want := []Span{
		{"firmware and GRUB", System, 0, 10},
		{"kernel and initrd", System, 10, 15},
		{"docker", System, 30, 40.5},
		{"container prose-api-1", Container, 50, 55.5},
		{"asking for a certificate: one | two", Ours, 60, 70.25},
		{"at once", Ours, 70.25, 90},
	}
	near := func(a, b Span) bool {
		return a.Name == b.Name && a.Kind == b.Kind && math.Abs(a.From-b.From) < 0.01 && math.Abs(a.To-b.To) < 0.01
	}
	if !slices.EqualFunc(got.Spans, want, near) {
		t.Errorf("got  %v\nwant %v", got.Spans, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ out, want string }{
		{"", "has told nothing"},
		{"100.00 150.00\n", "has told nothing"},
		{"hello\n", "not an uptime"},
		{"200.00 150.00\n", "not an uptime"},
		{"NaN\n", "not an uptime"},
		{"1.0\nclock=x\n", "clock=x"},
		{"1.0\nUserspaceTimestampMonotonic=\n", "Userspace"},
		{"1.0\ncontainer=/a yesterday today\n", "yesterday"},
		{"1.0\ncontainer=/a\n", "two times"},
		{"1.0\nId=a.service InactiveExitTimestampMonotonic=z\n", "a.service"},
	} {
		if _, err := Parse(tt.out, 110, 90); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: error %v, want %q", tt.out, err, tt.want)
		}
	}
}

func TestSVG(t *testing.T) {
	boot, err := Parse(told, 110, 90)
	if err != nil {
		t.Fatal(err)
	}
	boot.Title = "a <b> & c"
	boot.Moments = []Span{{"ports", "", 80, 80}, {"Ready", "", 90, 90}}
	var a, b bytes.Buffer
	if err := SVG(&a, []Timeline{boot, boot}); err != nil {
		t.Fatal(err)
	}
	if err := SVG(&b, []Timeline{boot, boot}); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two pictures of one boot differ", err)
	}
	bars := 0
	for d := xml.NewDecoder(bytes.NewReader(a.Bytes())); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if want := 1 + 2*len(boot.Spans); bars != want {
		t.Errorf("%d bars, want %d", bars, want)
	}
	for _, text := range []string{"a &lt;b&gt; &amp; c", "container prose-api-1 5.5 s", "Ready 90.0 s"} {
		if strings.Count(a.String(), text) != 2 {
			t.Errorf("the picture lacks %q", text)
		}
	}
}

func TestText(t *testing.T) {
	boot, err := Parse(told, 110, 90)
	if err != nil {
		t.Fatal(err)
	}
	boot.Title = "this"
	boot.Moments = []Span{{"Ready", "", 90, 90}}
	text := Text([]Timeline{boot})
	for _, line := range []string{"### this\n", "| 60.0 | 70.2 | 10.2 | asking for a certificate: one \\| two |\n", "| 90.0 | | | **Ready** |\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("the text lacks %q:\n%s", line, text)
		}
	}
}

// Whatever a machine tells, it is drawn or refused.
func FuzzParse(f *testing.F) {
	f.Add(told)
	f.Add("1.0\nclock=1e300\nuptime=-inf\ncontainer=/a 0001-01-01T00:00:00Z 9999-01-01T00:00:00Z\n")
	f.Fuzz(func(t *testing.T, out string) {
		boot, err := Parse(out, 110, 90)
		if err != nil {
			return
		}
		if err := SVG(io.Discard, []Timeline{boot}); err != nil {
			t.Error(err)
		}
		Text([]Timeline{boot})
	})
}
