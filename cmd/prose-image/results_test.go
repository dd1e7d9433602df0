package main

import (
	"strings"
	"testing"

	"github.com/prose-im/prose-image/builder/scenario"
)

// Whoever sees the end of the log alone learns which step failed, and why.
func TestShowResult(t *testing.T) {
	step := scenario.Case{Scenario: "walls", Firmware: "bios", Line: "status ready", At: 90}
	late := scenario.Case{Scenario: "walls", Firmware: "bios", Line: "within 60s answers", At: 150, Reason: "the server is not there\nafter 60 s"}
	after := scenario.Case{Scenario: "walls", Firmware: "bios", Line: "settled", Skipped: true}
	journal := late
	journal.Reason += strings.Repeat("\n1", 100)
	for name, c := range map[string]struct {
		cases []scenario.Case
		want  string
	}{
		"passed":         {[]scenario.Case{step}, "walls        bios         90.0 s  ok      all of 1 steps\n"},
		"failed":         {[]scenario.Case{step, late, after}, "walls        bios        150.0 s  FAILED  within 60s answers\n    the server is not there\n    after 60 s\n"},
		"with a journal": {[]scenario.Case{step, journal}, "walls        bios        150.0 s  FAILED  within 60s answers\n    the server is not there\n    after 60 s\n    1\n    1\n    1\n    1\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			showResult(&term{err: &b}, scenario.Result{Cases: c.cases})
			if b.String() != c.want {
				t.Errorf("got %q, want %q", b.String(), c.want)
			}
		})
	}
}
