package firstboot

import (
	"fmt"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
)

// engineLimit is how long the engine may take to answer before that is a failure.
const engineLimit = 2 * time.Minute

func podItem(w seen) status.Item {
	switch {
	case w.off:
		it := item(status.Owner, "The Pod is switched off.")
		it.Why, it.Do, it.Type = "Somebody stopped prose.service.", "Switch it on again:", []string{"sudo systemctl start prose"}
		return it
	case w.pod.ready:
		it := item(status.Done, "The server, the API, the dashboard and the web app answer.")
		if w.pod.complaints > 0 {
			it.Points = []string{fmt.Sprintf("The ends of their logs have %s with the word \"error\".", count(w.pod.complaints, "line"))}
		}
		return it
	case w.pod.trouble != "" && w.pod.err == nil:
		// An engine starts slowly on a small machine.
		it := item(status.Doing, "Docker does not answer. The Pod starts when it does.")
		if time.Since(w.pod.since) > engineLimit {
			it.Progress = status.Failed
		}
		it.Why, it.Do, it.Type = sentence(w.pod.trouble), "See what it says:", []string{"systemctl status docker", "sudo journalctl -u docker -n 20"}
		return it
	case w.pod.err != nil || w.errs[itemPod] != "":
		it := item(status.Failed, "The Pod does not answer.")
		it.Why = sentence(w.errs[itemPod])
		if w.pod.err != nil {
			it.Why = sentence(w.pod.err.Error())
		}
		it.Do, it.Type = "The machine tries again by itself. See what the containers said last:", []string{"sudo docker ps -a", "sudo docker logs --tail 50 prose-api-1"}
		return it
	}
	it := item(status.Doing, "The containers of the Pod are started.")
	if w.pod.doing != "" {
		it.Why = sentence("now: " + w.pod.doing)
	}
	return it
}
