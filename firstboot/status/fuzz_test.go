package status_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/firstboot/status"
	"github.com/prose-im/prose-image/firstboot/status/statustest"
)

// What Decode takes can be written and read again, and shown.
func FuzzDecode(f *testing.F) {
	for _, e := range statustest.Examples() {
		b, err := json.Marshal(e.Status)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := status.Decode(b)
		if err != nil {
			return
		}
		views(t, s, "")
		b, err = json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := status.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if c, _ := json.Marshal(again); string(b) != string(c) {
			t.Errorf("it changed:\n%s\n%s", b, c)
		}
	})
}

// Whatever is put in the place of every text of an example, each view keeps its
// form.
func FuzzViews(f *testing.F) {
	for i, e := range statustest.Examples() {
		f.Add(i, e.Status.Items[0].What, -i, e.Link)
		f.Add(i, "</style><b>\n\\e\x1b[2J\u202e{}\xff", 1<<40, "\n\\")
	}
	f.Fuzz(func(t *testing.T, i int, text string, n int, link string) {
		all := statustest.Examples()
		s := all[uint(i)%uint(len(all))].Status
		fill(reflect.ValueOf(&s).Elem(), text, n)
		views(t, s, link)
	})
}

// fill puts text and n in every place of their kind but words that choose.
func fill(v reflect.Value, text string, n int) {
	switch v.Kind() {
	case reflect.String:
		switch v.Interface().(type) {
		case status.State, status.Progress, status.RecordState:
		default:
			v.SetString(text)
		}
	case reflect.Int:
		v.SetInt(int64(n))
	case reflect.Slice:
		for i := range v.Len() {
			fill(v.Index(i), text, n)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem(), text, n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				fill(v.Field(i), text, n)
			}
		}
	}
}

// views makes all of them and looks at their form.
func views(t *testing.T, s status.Status, link string) {
	t.Helper()
	status.Text(s, status.Layout{Width: len(link), Colour: true})
	wellFormed(t, status.Page(s))
	if n := strings.Count(status.MOTD(s), "\n"); n > 11 {
		t.Errorf("the message of the day has %d lines", n)
	}
	console := status.Console(s, link)
	for _, r := range console {
		if r != '\n' && (r < ' ' || r > '~') {
			t.Errorf("the console gets %U", r)
		}
	}
	// Every backslash is one that means itself.
	if strings.Contains(strings.ReplaceAll(console, `\\`, ""), `\`) {
		t.Errorf("an escape for agetty:\n%s", console)
	}
	lines := 0
	for _, r := range s.Records {
		lines += 2 + len(r.Found)
	}
	if n := strings.Count(status.WholeZone(s), "\n"); n > lines {
		t.Errorf("%d lines of zone, want %d at most", n, lines)
	}
}
