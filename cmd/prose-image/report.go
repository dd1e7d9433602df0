package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/prose-im/prose-image/builder/scenario"
)

// showResult tells in a line how a machine ended, and of one that failed why.
func showResult(t *term, r scenario.Result) {
	failures := 0
	for _, k := range r.Cases {
		if k.Reason == "" || k.Skipped {
			continue
		}
		failures++
		k.Reason = begin(k.Reason, 6)
		showCase(t, k)
	}
	if failures == 0 {
		last := r.Cases[len(r.Cases)-1]
		t.notef("%-12s %-10s %6.1f s  ok      all of %d steps", last.Scenario, last.Firmware, last.At, len(r.Cases))
	}
}

// begin is the first lines of a text. A journal that follows a reason was shown
// when the step failed.
func begin(text string, lines int) string {
	all := strings.SplitN(strings.TrimSpace(text), "\n", lines+1)
	return strings.Join(all[:min(len(all), lines)], "\n")
}

func showCase(t *term, k scenario.Case) {
	name := k.Line
	if r := []rune(name); len(r) > 76 {
		name = string(r[:75]) + "…"
	}
	at := fmt.Sprintf("%-12s %-10s %6.1f s", k.Scenario, k.Firmware, k.At)
	switch {
	case k.Skipped:
	case k.Reason == "":
		t.notef("%s  ok      %s", at, name)
	default:
		t.notef("%s  FAILED  %s\n    %s", at, k.Line, strings.ReplaceAll(strings.TrimSpace(k.Reason), "\n", "\n    "))
	}
}

// report writes the files that were asked for.
func (c *testConfig) report(results []scenario.Result) error {
	write := func(path string, how func(io.Writer) error) error {
		if path == "" {
			return nil
		}
		var b strings.Builder
		if err := how(&b); err != nil {
			return fmt.Errorf("writing %s: %w", path, err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			return fmt.Errorf("writing the results: %w", err)
		}
		return nil
	}
	return errors.Join(
		write(c.junit, func(w io.Writer) error { return scenario.WriteJUnit(w, results) }),
		write(c.json, func(w io.Writer) error {
			e := json.NewEncoder(w)
			e.SetIndent("", "  ")
			return e.Encode(results)
		}))
}
