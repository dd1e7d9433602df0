package scenario

import (
	"encoding/xml"
	"strings"
	"testing"
	"time"
)

func TestJUnit(t *testing.T) {
	results := []Result{{Scenario: "first", Firmware: "bios", Start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Cases: []Case{
		{Number: 0, Line: "log in", Seconds: 1.5, At: 2},
		{Number: 1, Line: `run "a & b"`, Seconds: 0.25, At: 3, Reason: "it is <bad>\x1b[0m\nbecause"},
		{Number: 2, Line: "settled", Skipped: true},
	}}}
	var b strings.Builder
	if err := WriteJUnit(&b, results); err != nil {
		t.Fatal(err)
	}
	const want = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites>
  <testsuite name="first bios" tests="3" failures="1" skipped="1" time="1.750" timestamp="2026-01-02T03:04:05">
    <testcase classname="first.bios" name="00 log in" time="1.500"></testcase>
    <testcase classname="first.bios" name="01 run &#34;a &amp; b&#34;" time="0.250">
      <failure message="it is &lt;bad&gt;[0m">it is &lt;bad&gt;[0m&#xA;because</failure>
    </testcase>
    <testcase classname="first.bios" name="02 settled" time="0.000">
      <skipped></skipped>
    </testcase>
  </testsuite>
</testsuites>
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if !results[0].Failed() || (Result{Cases: results[0].Cases[:1]}).Failed() {
		t.Error("Failed says something else")
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x00b\xffc\ufffe")
	f.Fuzz(func(t *testing.T, s string) {
		var b strings.Builder
		if err := WriteJUnit(&b, []Result{{Cases: []Case{{Line: s, Reason: s + "!"}}}}); err != nil {
			t.Fatal(err)
		}
		var all suites
		if err := xml.Unmarshal([]byte(b.String()), &all); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	})
}
