package status

import (
	"strings"
)

// sections of the list, the owner's first, and what they are called.
var sections = []struct {
	progress Progress
	title    string
}{
	{Owner, "What you have to do"},
	{Failed, "What does not work"},
	{Warning, "What needs a look"},
	{Doing, "What happens by itself"},
	{Done, "What is done"},
}

// Page is the status as an HTML page without script and without anything to
// fetch. Whoever comes to the machine's address sees it: it says nothing of
// versions, and neither does it show the one-time link.
func Page(s Status) []byte {
	var h sheet
	h.put(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
`)
	h.put("<title>{}</title>\n<style>\n", headline(s)+" - Prose")
	h.put(style)
	h.put("</style>\n</head>\n<body>\n<header>\n<p class=\"brand\">Prose Pod</p>\n</header>\n<main>\n")
	h.put("<h1 class=\"{}\">{}</h1>\n<p class=\"lead\">{}</p>\n", stateClass(s.State), headline(s), lead(s))
	if s.State == Ready || s.State == Degraded {
		h.links(s.Links)
	}
	// Records come after what the owner has to do, or before what is done.
	records := Done
	if len(by(s.Items, Owner)) > 0 {
		records = Owner
	}
	for _, section := range sections {
		some := by(s.Items, section.progress)
		if section.progress == Done && records == Done {
			h.records(s)
		}
		if len(some) == 0 {
			continue
		}
		h.put("<section>\n<h2>{}</h2>\n<ul class=\"items {}\">\n", section.title, string(section.progress))
		for _, it := range some {
			h.item(it, s)
		}
		h.put("</ul>\n</section>\n")
		if section.progress == Owner {
			if unconfigured(s) {
				h.begin()
			}
			h.records(s)
		}
	}
	h.certificates(s.Certificates)
	h.put("</main>\n<footer>\n")
	if !s.At.IsZero() {
		h.put("<p>Looked at {}.", stamp(s.At))
		if !s.Again.IsZero() {
			h.put(" Looks again at {}.", clock(s.Again, s.At))
		}
		h.put("</p>\n")
	}
	// It does not renew itself: that would take the place from whoever reads it
	// aloud or slowly (WCAG 2.1 section 2.2.1).
	if s.State == Working || s.State == Waiting {
		h.put("<p><a href=\"/\">Look again</a></p>\n")
	}
	h.put("</footer>\n</body>\n</html>\n")
	return h.Bytes()
}

// stateClass is the state when it is one: a class is no place for other words.
func stateClass(s State) string {
	switch s {
	case Ready, Degraded, Working, Waiting:
		return string(s)
	}
	return string(Broken)
}

// lead says below the headline what it means for the reader.
func lead(s Status) string {
	switch s.State {
	case Ready:
		if s.Locked {
			return "Everything answers. The first account is not made yet."
		}
		return "Everything answers. People can sign in and chat."
	case Degraded:
		return "People can chat. The list says what needs a look, and what to do about it."
	case Working:
		return "Nobody has to do anything. This takes some minutes."
	case Waiting:
		if unconfigured(s) {
			return "It runs and has everything it needs. Tell it its domain in one of two ways, and it does the rest by itself."
		}
		return "The list begins with what you have to do. The machine does the rest by itself."
	}
	return "The machine has not mended it yet, and keeps trying. The list says what is in the way."
}

func (h *sheet) links(links []Link) {
	if len(links) == 0 {
		return
	}
	h.put("<nav aria-label=\"Links\">\n<ul class=\"links\">\n")
	for _, l := range links {
		if opens(l.URL) {
			h.put("<li><a href=\"{}\"><strong>{}</strong> <span>{}</span></a></li>\n", l.URL, l.Title, bare(l.URL))
		} else {
			h.put("<li><strong>{}</strong> <span>{}</span></li>\n", l.Title, l.URL)
		}
	}
	h.put("</ul>\n</nav>\n")
}

// bare is an address as people say it.
func bare(url string) string {
	return strings.TrimSuffix(strings.TrimPrefix(url, "https://"), "/")
}

func (h *sheet) item(it Item, s Status) {
	h.put("<li>\n<h3>{}</h3>\n<p>{}</p>\n", it.Title, it.What)
	if len(it.Points) > 0 {
		h.put("<ul class=\"points\">\n")
		for _, point := range it.Points {
			h.put("<li>{}</li>\n", point)
		}
		h.put("</ul>\n")
	}
	if it.Why != "" {
		h.put("<p class=\"why\">{}</p>\n", it.Why)
	}
	if it.Do != "" {
		h.put("<p>{}</p>\n", it.Do)
	}
	h.copy("For "+it.Title+", to copy", it.Type)
	if len(it.Ways) > 0 {
		h.put("<ul class=\"points\">\n")
		for _, way := range it.Ways {
			h.put("<li>\n<p>{}</p>\n", way.Title)
			h.copy(way.Title+" To copy", way.Type)
			h.put("</li>\n")
		}
		h.put("</ul>\n")
	}
	if !it.Again.IsZero() {
		h.put("<p class=\"again\">The machine tries again at {}.</p>\n", clock(it.Again, s.At))
	}
	h.put("</li>\n")
}

// begin is what only a machine without a domain says: the item has the way
// over SSH, this is the other.
func (h *sheet) begin() {
	h.put(`<section>
<h2>Or start another machine with its domain</h2>
<p>Give it this as user-data when you make it, with your domain in the last line:</p>
`)
	h.copy("User-data, to copy", strings.Split(userData, "\n"))
	h.put("</section>\n")
}

// copy writes lines that are to be copied. They scroll when they are longer
// than the screen, also for people without a mouse.
func (h *sheet) copy(label string, lines []string) {
	if len(lines) == 0 {
		return
	}
	h.put("<div class=\"copy\" role=\"group\" tabindex=\"0\" aria-label=\"{}\">\n<pre><code>", label)
	for i, line := range lines {
		if i > 0 {
			h.put("\n")
		}
		h.put("{}", line)
	}
	h.put("</code></pre>\n</div>\n")
}
