package status_test

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/firstboot/status"
	"github.com/prose-im/prose-image/firstboot/status/statustest"
)

var update = flag.Bool("update", false, "rewrite goldens")

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is not what comes out now; -update rewrites it. Got:\n%s", path, got)
	}
}

var styleSheet = regexp.MustCompile(`(?s)<style>.*</style>`)

// Every view of every example, for people to read. The pages leave out the
// style sheet, which the image's own page has.
func TestViews(t *testing.T) {
	for _, e := range statustest.Examples() {
		t.Run(e.Name, func(t *testing.T) {
			var b strings.Builder
			for _, view := range []struct{ name, text string }{
				{"on a terminal", status.Text(e.Status, status.Layout{Width: 80})},
				{"message of the day", status.MOTD(e.Status)},
				{"issue of the console", status.Console(e.Status, e.Link)},
				{"zone, what is missing", status.Zone(e.Status)},
				{"zone, whole", status.WholeZone(e.Status)},
			} {
				b.WriteString("=== " + view.name + "\n" + view.text)
			}
			golden(t, filepath.Join("testdata", e.Name+".txt"), b.String())
			page := styleSheet.ReplaceAllString(string(status.Page(e.Status)), "<style>...</style>")
			golden(t, filepath.Join("testdata", e.Name+".html"), page)
		})
	}
}

// The image has the page of a machine without a domain before the agent has
// written one.
func TestImageHasThePage(t *testing.T) {
	golden(t, "../../overlays/base/usr/share/prose/www/index.html", string(status.Page(status.Unconfigured())))
}

func TestDecodeReadsWhatIsWritten(t *testing.T) {
	for _, e := range statustest.Examples() {
		if e.Name == "hostile" {
			continue // links that Decode refuses
		}
		b, err := json.Marshal(e.Status)
		if err != nil {
			t.Fatal(err)
		}
		s, err := status.Decode(b)
		if err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
		if !reflect.DeepEqual(s, e.Status) {
			t.Errorf("%s: got %+v\nwant %+v", e.Name, s, e.Status)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	const good = `{"schema":1,"state":"ready","items":[]}`
	if _, err := status.Decode([]byte(good)); err != nil {
		t.Fatal(err)
	}
	if _, err := status.Decode([]byte(`{"schema":1,"state":"ready","items":[],"later":1}`)); err != nil {
		t.Errorf("a field of a newer agent: %v", err)
	}
	for _, test := range []struct{ in, want string }{
		{``, "EOF"},
		{`null`, "schema 0"},
		{good + `{}`, "something follows"},
		{`{"schema":2,"state":"ready"}`, "schema 2, this program reads 1"},
		{`{"schema":1}`, `state: "" is none`},
		{`{"schema":1,"state":"fine"}`, `state: "fine" is none`},
		{`{"schema":1,"state":"ready","items":[{"key":"a","title":"A","what":"b"}]}`, `items[0].progress: "" is none`},
		{`{"schema":1,"state":"ready","items":[{"key":"a","progress":"done"}]}`, "items[0]: key, title and what"},
		{`{"schema":1,"state":"ready","records":[{"name":"a","type":"A","ttl":-1,"state":"missing"}]}`, "records[0].ttl: -1"},
		{`{"schema":1,"state":"ready","records":[{"state":"gone"}]}`, `records[0].state: "gone" is none`},
		{`{"schema":1,"state":"ready","records":[{"state":"gone"}]}`, "name and type"},
		{`{"schema":1,"state":"ready","links":[{"title":"a","url":"javascript:alert(1)"}]}`, "nothing to open"},
		{`{"schema":1,"state":"ready","certificates":[{}]}`, "certificates[0].name"},
		{`{"schema":1,"state":"ready","at":"yesterday"}`, "yesterday"},
		{good + strings.Repeat(" ", status.MaxSize), "more than"},
	} {
		if _, err := status.Decode([]byte(test.in)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.80s: got %v, want %q", test.in, err, test.want)
		}
	}
}

func TestExitCodes(t *testing.T) {
	for state, want := range map[status.State]int{status.Ready: 0, status.Broken: 1, status.Degraded: 2, status.Working: 2, status.Waiting: 3, "": 1} {
		if got := state.ExitCode(); got != want {
			t.Errorf("%q: got %d, want %d", state, got, want)
		}
	}
}
