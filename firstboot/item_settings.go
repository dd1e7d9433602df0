package firstboot

import (
	"fmt"
	"strings"

	"github.com/prose-im/prose-image/firstboot/status"
)

func settingsItem(w seen) status.Item {
	switch {
	case w.state.Reset:
		return item(status.Doing, "The machine goes back to its beginning, and forgets "+w.state.Domain+".")
	case len(w.report.Problems) > 0:
		it := item(status.Owner, fmt.Sprintf("The settings have %s. None of the settings is used until all are right.", count(len(w.report.Problems), "mistake")))
		if w.state.Domain != "" {
			it.What = fmt.Sprintf("The settings have %s. What was set up before goes on.", count(len(w.report.Problems), "mistake"))
		}
		for _, p := range w.report.Problems {
			text := p.String() + "."
			if p.Hint != "" {
				text += " Hint: " + p.Hint
				if !strings.HasSuffix(text, "?") {
					text += "."
				}
			}
			it.Points = append(it.Points, text)
		}
		it.Do = "Correct them where they stand, or answer the questions of this command:"
		it.Type = []string{"sudo prose-firstboot configure"}
		return it
	case w.conflict():
		it := item(status.Warning, fmt.Sprintf("The settings name %s, but this machine was set up for %s.", w.asked, w.settings.Domain))
		it.Why = "The domain of a machine cannot change, because everybody's address ends in it. The machine stays with " + w.settings.Domain + "."
		it.Do = fmt.Sprintf("Name %s in the settings again. For %s start another machine, or let this one forget everything and begin anew:", w.settings.Domain, w.asked)
		it.Type = []string{"sudo prose-firstboot reset"}
		return it
	case !w.configured():
		return status.Unconfigured().Items[0]
	}
	it := item(status.Done, "The machine is set up for "+w.settings.Domain+".")
	if w.settings.Analytics {
		it.Points = append(it.Points, "The Pod sends figures about its use to its makers: analytics is true.")
	}
	for _, c := range w.report.Conflicts {
		it.Points = append(it.Points, c.String()+".")
	}
	// Who is shut out by these wonders why.
	for _, a := range []struct {
		what     string
		networks []string
	}{{"SSH", w.settings.Allow.SSH}, {"The dashboard", w.settings.Allow.Dashboard}} {
		if len(a.networks) > 0 {
			it.Points = append(it.Points, a.what+" is open to these networks only: "+strings.Join(a.networks, ", ")+".")
		}
	}
	return it
}
