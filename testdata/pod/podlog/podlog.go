// Package podlog writes log lines in the shape of upstream's programs: one JSON
// object per line by default, or plain text, on standard output.
package podlog

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"
)

// Levels are the names of the levels, most talkative first.
var Levels = []string{"trace", "debug", "info", "warn", "error"}

// Formats are the names of the formats. All but json are one plain line here.
var Formats = []string{"full", "compact", "json", "pretty"}

// Timers are the names of the clocks that start a line.
var Timers = []string{"none", "time", "uptime"}

// A Logger writes lines. Its settings may be changed by Set only.
type Logger struct {
	target string
	start  time.Time

	mu     sync.Mutex
	w      io.Writer
	level  int
	format string
	timer  string
}

// New returns a logger of level info in JSON with the time of day. target is
// the name of the program.
func New(w io.Writer, target string) *Logger {
	return &Logger{target: target, start: time.Now(), w: w, level: 2, format: "json", timer: "time"}
}

// Set changes level, format and timer.
func (l *Logger) Set(level, format, timer string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level, l.format, l.timer = slices.Index(Levels, level), format, timer
}

// Debugf, Infof, Warnf and Errorf write one line of their level.
func (l *Logger) Debugf(format string, args ...any) { l.Line("debug", l.target, format, args...) }

// Infof writes a line of level info.
func (l *Logger) Infof(format string, args ...any) { l.Line("info", l.target, format, args...) }

// Warnf writes a line of level warn.
func (l *Logger) Warnf(format string, args ...any) { l.Line("warn", l.target, format, args...) }

// Errorf writes a line of level error.
func (l *Logger) Errorf(format string, args ...any) { l.Line("error", l.target, format, args...) }

// Line writes a line of a level on behalf of target.
func (l *Logger) Line(level, target, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := slices.Index(Levels, level)
	if n < l.level {
		return
	}
	message := fmt.Sprintf(format, args...)
	stamp := ""
	switch l.timer {
	case "time":
		stamp = time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	case "uptime":
		stamp = fmt.Sprintf("%14.9fs", time.Since(l.start).Seconds())
	}
	upper := [...]string{"TRACE", "DEBUG", "INFO", "WARN", "ERROR"}[max(n, 0)]
	if l.format != "json" {
		fmt.Fprintf(l.w, "%s %5s %s: %s\n", stamp, upper, target, message)
		return
	}
	type fields struct {
		Message string `json:"message"`
	}
	line, err := json.Marshal(struct {
		Timestamp string `json:"timestamp,omitempty"`
		Level     string `json:"level"`
		Fields    fields `json:"fields"`
		Target    string `json:"target"`
	}{stamp, upper, fields{message}, target})
	if err == nil {
		l.w.Write(append(line, '\n'))
	}
}
