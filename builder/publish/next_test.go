package publish_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/prose-im/prose-image/builder/publish"
)

// The decision as a table: two regions, of which each is made without a token.
func TestNext(t *testing.T) {
	const horizon = time.Minute
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	plan := []publish.Step{
		{Stage: publish.Upload, Call: "upload", Again: true},
		{Stage: publish.Register, Call: "make a", Part: "a"},
		{Stage: publish.Register, Call: "make b", Part: "b"},
		{Stage: publish.Public, Call: "open a", Part: "a", Again: true},
		{Stage: publish.Public, Call: "open b", Part: "b", Again: true},
		{Stage: publish.Finish, Call: "tell", Again: true},
	}
	type seen = map[string]publish.Seen
	type past = map[string]publish.Past
	done := publish.Seen{State: publish.Done}
	made := publish.Seen{State: publish.Done, Made: now.Add(-time.Hour)}
	fresh := publish.Seen{State: publish.Done, Made: now.Add(-10 * time.Second)}
	twins := publish.Seen{State: publish.Done, Made: now.Add(-time.Hour), Twins: []string{"x", "y"}}
	failed := publish.Past{Failed: errors.New("no")}
	for name, c := range map[string]struct {
		seen seen
		past past
		kind publish.MoveKind
		what string // the call, or the first twin
		in   time.Duration
	}{
		"nothing is there":                        {kind: publish.DoStep, what: "upload"},
		"the first is there":                      {seen: seen{"upload": done}, kind: publish.DoStep, what: "make a"},
		"what is unknown is waited for":           {seen: seen{"upload": done}, past: past{"make a": {Open: true, At: now}}, kind: publish.DoStep, what: "make b"},
		"and nothing else is to be done":          {seen: seen{"upload": done, "make b": made}, past: past{"make a": {Open: true, At: now}}, kind: publish.Wait, what: "make a", in: horizon},
		"no longer than the horizon":              {seen: seen{"upload": done}, past: past{"make a": {Open: true, At: now.Add(-horizon)}}, kind: publish.DoStep, what: "make a"},
		"what was done and is not seen likewise":  {seen: seen{"upload": done, "make b": made}, past: past{"make a": {Did: true, At: now}}, kind: publish.Wait, what: "make a", in: horizon},
		"what may be done again is not":           {past: past{"upload": {Open: true, At: now}}, kind: publish.DoStep, what: "upload"},
		"a refusal waits as long as it was told":  {past: past{"upload": {At: now, NotBefore: now.Add(7 * time.Second)}}, kind: publish.Wait, what: "upload", in: 7 * time.Second},
		"a new one may have a twin":               {seen: seen{"upload": done, "make a": fresh, "make b": made}, kind: publish.Wait, what: "make a", in: 50 * time.Second},
		"younger twins go":                        {seen: seen{"upload": done, "make a": twins}, kind: publish.RemoveTwins, what: "x"},
		"the gate waits for all":                  {seen: seen{"upload": done, "make a": made, "make b": {State: publish.Pending}}, kind: publish.Wait, what: "make b", in: 10 * time.Second},
		"the gate opens":                          {seen: seen{"upload": done, "make a": made, "make b": made}, kind: publish.DoStep, what: "open a"},
		"the gate does not wait for what failed":  {seen: seen{"upload": done, "make b": made}, past: past{"make a": failed}, kind: publish.DoStep, what: "open b"},
		"and what concerns all is not done then":  {seen: seen{"upload": done, "make b": made, "open b": done}, past: past{"make a": failed}, kind: publish.End},
		"nothing goes on without the first":       {past: past{"upload": failed}, kind: publish.End},
		"a conflict stops before anything":        {seen: seen{"make b": {State: publish.Conflict, Note: "other"}}, kind: publish.Stop, what: "make b"},
		"all is there":                            {seen: seen{"upload": done, "make a": made, "make b": made, "open a": done, "open b": done, "tell": done}, kind: publish.End},
		"what is public and not told":             {seen: seen{"upload": done, "make a": made, "make b": made, "open a": done, "open b": done}, kind: publish.DoStep, what: "tell"},
		"an unknown end is waited for at the end": {seen: seen{"upload": done, "make a": made, "make b": made, "open a": done, "open b": done, "tell": done}, past: past{"upload": {Open: true, At: now}}, kind: publish.Wait, what: "upload", in: horizon},
	} {
		m := publish.Next(plan, c.seen, c.past, horizon, now)
		what := m.Step.Call
		if m.Kind == publish.RemoveTwins {
			what = m.Remove[0]
		}
		in := time.Duration(0)
		if m.Kind == publish.Wait {
			in = m.Until.Sub(now)
		}
		if m.Kind != c.kind || what != c.what || in != c.in {
			t.Errorf("%s: %s %q in %s, not %s %q in %s", name, m.Kind, what, in, c.kind, c.what, c.in)
		}
	}
}

func TestSweepable(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		l    publish.Leftover
		want bool
	}{
		"young":                   {publish.Leftover{Operation: "a", Made: now.Add(-time.Minute)}, false},
		"old":                     {publish.Leftover{Operation: "a", Made: now.Add(-24 * time.Hour)}, true},
		"young of one that ended": {publish.Leftover{Operation: "ended", Made: now}, true},
		"young without a mark":    {publish.Leftover{Made: now}, false},
	} {
		if got := publish.Sweepable(c.l, []string{"ended", ""}, 24*time.Hour, now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	order := []string{"", "0", "0.9", "1.0-rc1", "1.0-rc2", "1.0-rc10", "1.0~z", "1.0", "1.0.1", "1.2", "1.10", "2", "10", "v1"}
	for i, a := range order {
		for j, b := range order {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if got := publish.CompareVersions(a, b); got != want {
				t.Errorf("%q and %q: %d, not %d", a, b, got, want)
			}
		}
	}
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1.0", "1.0-rc1", "01.0")
	f.Add("", "~", "-")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		if publish.CompareVersions(a, b) != -publish.CompareVersions(b, a) {
			t.Errorf("%q and %q: not the same both ways", a, b)
		}
		if publish.CompareVersions(a, b) < 0 && publish.CompareVersions(b, c) < 0 && publish.CompareVersions(a, c) >= 0 {
			t.Errorf("%q, %q, %q: no order", a, b, c)
		}
	})
}

func TestImageCheck(t *testing.T) {
	good := testImage(t, 1)
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	bad := good
	bad.Name, bad.Version, bad.Channel = "../x", "latest", "latest"
	bad.Files = append([]publish.File{{Name: "SHA256SUMS", SHA256: "12", Size: 0}, good.Files[0]}, good.Files...)
	err := bad.Check()
	if err == nil {
		t.Fatal("all of it passed")
	}
	var lines []string
	for _, e := range err.(interface{ Unwrap() []error }).Unwrap() {
		lines = append(lines, e.Error())
	}
	want := []string{
		`channel and version are both "latest"`,
		`name "../x" is not made of letters, digits and . _ + ~ -, with a letter or digit first`,
		`a file may not be called SHA256SUMS`,
		`sha256 of SHA256SUMS is "12", not 64 hexadecimal digits`,
		`size of SHA256SUMS is 0`,
		`two files are called prose-1.0-generic-amd64.qcow2`,
	}
	if !reflect.DeepEqual(lines, want) {
		t.Errorf("%q", lines)
	}
}

// What a journal leaves open is what has no answer.
func TestRemember(t *testing.T) {
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	e := func(call string, kind publish.EntryKind, data string) publish.Entry {
		return publish.Entry{Call: call, Kind: kind, Data: []byte(data), At: at}
	}
	past, err := publish.Remember([]publish.Entry{
		e("done", publish.Intent, `{}`), e("done", publish.Result, `{"answer":"id"}`),
		e("began", publish.Result, `{"answer":"old"}`), e("began", publish.Intent, `{}`),
		e("unknown", publish.Intent, `{}`), e("unknown", publish.Result, `{"outcome":"unknown","error":"no answer"}`),
		e("failed", publish.Intent, `{}`), e("failed", publish.Result, `{"outcome":"failed","error":"no"}`),
	})
	want := map[string]publish.Past{
		"done":    {At: at, Did: true, Answer: []byte(`"id"`)},
		"began":   {At: at, Open: true, Did: true, Answer: []byte(`"old"`)},
		"unknown": {At: at, Open: true},
		"failed":  {At: at},
	}
	if err != nil || !reflect.DeepEqual(past, want) {
		t.Errorf("%+v, %v", past, err)
	}
	for _, bad := range []publish.Entry{e("x", "rumour", `{}`), e("x", publish.Result, `{`)} {
		if _, err := publish.Remember([]publish.Entry{bad}); err == nil {
			t.Errorf("%+v passed", bad)
		}
	}
}

func TestOperation(t *testing.T) {
	img := testImage(t, 1)
	same := img
	same.Channel, same.Files = "other", []publish.File{img.Files[1], img.Files[0]}
	if publish.Operation("a", img) != publish.Operation("a", same) {
		t.Error("the order of files and the channel count")
	}
	version := img
	version.Version = "2"
	for what, id := range map[string]string{
		"another target": publish.Operation("b", img), "another version": publish.Operation("a", version), "other bytes": publish.Operation("a", testImage(t, 2)),
	} {
		if id == publish.Operation("a", img) {
			t.Errorf("%s is the same operation", what)
		}
	}
}
