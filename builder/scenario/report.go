package scenario

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prose-im/prose-image/builder/boot"
)

// A Result is what came of one scenario with one kind of firmware.
type Result struct {
	Scenario string        `json:"scenario"`
	About    string        `json:"about,omitempty"`
	Firmware boot.Firmware `json:"firmware"`
	Accel    boot.Accel    `json:"accel"`
	Start    time.Time     `json:"start"`
	Logs     string        `json:"logs,omitempty"` // directory, when it failed
	Cases    []Case        `json:"cases"`
}

// A Case is what came of one step.
type Case struct {
	Number   int           `json:"number"` // from 0; logging in is one, too
	Line     string        `json:"line"`
	Scenario string        `json:"-"`
	Firmware boot.Firmware `json:"-"`
	Seconds  float64       `json:"seconds"`          // that it took
	At       float64       `json:"at"`               // seconds after power-on when it was over
	CPU      float64       `json:"cpu"`              // seconds of processor time that the machine had had by then, since it was last switched on
	Reason   string        `json:"reason,omitempty"` // why it failed; empty: it did not
	Skipped  bool          `json:"skipped,omitempty"`
}

// Failed reports whether a step has failed.
func (r Result) Failed() bool {
	for _, c := range r.Cases {
		if c.Reason != "" {
			return true
		}
	}
	return false
}

// JUnit's XML, as Jenkins and GitLab read it
// (https://github.com/testmoapp/junitxml).
type (
	suites struct {
		XMLName xml.Name `xml:"testsuites"`
		Suites  []suite  `xml:"testsuite"`
	}
	suite struct {
		Name      string     `xml:"name,attr"`
		Tests     int        `xml:"tests,attr"`
		Failures  int        `xml:"failures,attr"`
		Skipped   int        `xml:"skipped,attr"`
		Time      string     `xml:"time,attr"`
		Timestamp string     `xml:"timestamp,attr"`
		Cases     []testCase `xml:"testcase"`
	}
	testCase struct {
		Class   string    `xml:"classname,attr"`
		Name    string    `xml:"name,attr"`
		Time    string    `xml:"time,attr"`
		Failure *failure  `xml:"failure"`
		Skipped *struct{} `xml:"skipped"`
	}
	failure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// WriteJUnit writes results as JUnit's XML.
func WriteJUnit(w io.Writer, results []Result) error {
	var all suites
	for _, r := range results {
		s := suite{Name: r.Scenario + " " + string(r.Firmware), Tests: len(r.Cases), Timestamp: r.Start.Format("2006-01-02T15:04:05")}
		total := 0.0
		for _, c := range r.Cases {
			t := testCase{Class: r.Scenario + "." + string(r.Firmware), Name: fmt.Sprintf("%02d %s", c.Number, printable(c.Line)), Time: seconds(c.Seconds)}
			total += c.Seconds
			switch {
			case c.Reason != "":
				s.Failures++
				first, _, _ := strings.Cut(c.Reason, "\n")
				t.Failure = &failure{Message: printable(first), Text: printable(c.Reason)}
			case c.Skipped:
				s.Skipped++
				t.Skipped = &struct{}{}
			}
			s.Cases = append(s.Cases, t)
		}
		s.Time = seconds(total)
		all.Suites = append(all.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func seconds(s float64) string { return fmt.Sprintf("%.3f", s) }

// printable leaves out what XML 1.0 cannot hold: consoles have it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == utf8.RuneError || r == 0x7f || r == 0xfffe || r == 0xffff {
			return -1
		}
		return r
	}, s)
}
