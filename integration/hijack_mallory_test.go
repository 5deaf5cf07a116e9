package integration

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddy-wechat/caddy-wechat/wechat/wechattest"
)

// TestHijackByMallory: Mallory knows addresses, begins logins and has a browser of his own; lina is the victim.
func TestHijackByMallory(t *testing.T) {
	w := hijackWorld(t, "")
	hijackRun(t, w, []hijackTest{
		{"a login that a victim filled answers the attacker's other codes with nothing", hijackFilledLogin},
		{"a callback's address is nothing in another browser, and spends nothing", hijackSharedAddress},
		{"a victim who is led to the attacker's callback stays who they are", hijackLoginCSRF},
		{"what belongs to two logins of one browser cannot be mixed", hijackMixedTabs},
		{"a session that was planted before the login is not the one after it", hijackFixation},
	})
	t.Run("an outcome's seal that is replayed signs nobody out and ends no other login", func(t *testing.T) {
		hijackReplayedSeals(t, w, shopPage)
	})
}

// Attack: Mallory begins a login, lina's silent callback fills it, and Mallory asks again with codes of his own choice.
func hijackFilledLogin(t *testing.T, w *world, page string) {
	mallory, lina := hijackBrowser(t, w, "mallory"), hijackBrowser(t, w, "lina")
	authorize := mallory.leave(page)
	mallorys := mallory.authorize(authorize)
	filled := lina.authorize(authorize)
	if resp, body := lina.finish(filled); sessionOf(resp) != "" {
		t.Fatalf("lina was signed in by Mallory's login: %s", body)
	}
	elsewhere := lina.begin(page)
	lina.finish(elsewhere)
	lina.mustBe(page, "lina")
	codes := map[string]string{
		"a junk code":                           strings.Repeat("J", 32),
		"no code":                               "",
		"the code that lina's own login had":    queryOf(t, elsewhere).Get("code"),
		"her code with a letter changed":        "x" + queryOf(t, filled).Get("code")[1:],
		"her code in another case":              strings.ToUpper(queryOf(t, filled).Get("code")),
		"a junk code, after all the others too": strings.Repeat("K", 32),
	}
	for name, code := range codes {
		if strings.EqualFold(code, queryOf(t, filled).Get("code")) && code == queryOf(t, filled).Get("code") {
			continue // it had no letters to change
		}
		for range 2 {
			resp, body := mallory.finish(withQuery(t, mallorys, "code", code))
			mallory.mustGetNothing(name, "lina", resp, body)
		}
	}
	// The code that filled the login, in a login of Mallory's that it did not fill.
	another := mallory.begin(page)
	resp, body := mallory.finish(withQuery(t, another, "code", queryOf(t, filled).Get("code")))
	mallory.mustGetNothing("her code in another login", "lina", resp, body)
	lina.mustBe(page, "lina")
}

// Attack: the callback's address is read in a log, over a shoulder, or shared as a link.
func hijackSharedAddress(t *testing.T, w *world, page string) {
	w.sim.ResetCalls()
	lina := hijackBrowser(t, w, "lina")
	callback := lina.begin(page)
	site := lina.atSite(callback, page)
	signedIn := hijackBrowser(t, w, "zhangwei")
	signedIn.signIn(page)
	before := signedIn.session(page)
	w.sim.ResetCalls()
	hijackTogether(12, func(i int) {
		address := []string{site, callback}[i%2]
		stranger := hijackBrowser(t, w, "mallory")
		resp, body := stranger.finish(address)
		stranger.mustGetNothing("a stranger", "lina", resp, body)
		if len(stranger.got) > 0 {
			t.Error("a stranger has a session")
		}
	})
	for _, address := range []string{callback, site} {
		if resp, _ := signedIn.finish(address); resp.StatusCode != http.StatusSeeOther || signedIn.session(page) != before {
			t.Errorf("somebody signed in got %d, another session: %v", resp.StatusCode, signedIn.session(page) != before)
		}
	}
	if resp, body := lina.finish(site); !hijackEndsAt(resp, page) {
		t.Fatalf("the ticket was spent: %d\n%.500s", resp.StatusCode, body)
	}
	lina.mustBe(page, "lina")
	signedIn.mustBe(page, "zhangwei")
	if n := w.sim.CountCalls(wechattest.PathToken); n > 1 {
		t.Errorf("the code was exchanged %d times", n)
	}
}

// Attack: the victim is signed in as Mallory, and types their card's number into Mallory's account.
func hijackLoginCSRF(t *testing.T, w *world, page string) {
	mallory := hijackBrowser(t, w, "zhangwei")
	callback := mallory.begin(page)
	site := mallory.atSite(callback, page)
	for _, address := range []string{callback, site} {
		lina := hijackBrowser(t, w, "lina")
		resp, _, logins := lina.walk(address)
		if resp.StatusCode != http.StatusOK || logins != 1 {
			t.Errorf("without a session: %d after %d logins", resp.StatusCode, logins)
		}
		lina.mustBe(page, "lina")
		session := lina.session(page)
		lina.finish(address)
		if lina.session(page) != session {
			t.Error("with a session: it was replaced")
		}
		waiting := hijackBrowser(t, w, "lina")
		own := waiting.begin(page)
		waiting.finish(address)
		if resp, _ := waiting.finish(own); !hijackEndsAt(resp, page) {
			t.Errorf("with a login of her own under way: that ended with %d", resp.StatusCode)
		}
		waiting.mustBe(page, "lina")
	}
	if resp, _ := mallory.finish(site); !hijackEndsAt(resp, page) {
		t.Errorf("the ticket was spent: %d", resp.StatusCode)
	}
}

// Attack: parameters of one tab's login in another's callback. Whatever is mixed, a state stands for its own
// login alone, and a ticket for its own.
func hijackMixedTabs(t *testing.T, w *world, page string) {
	h := hijackBrowser(t, w, "lina")
	a, b := h.atSite(h.begin(page+"?tab=a"), page), h.atSite(h.begin(page+"?tab=b"), page)
	for _, mixed := range []string{
		withQuery(t, a, "state", queryOf(t, b).Get("state")),
		withQuery(t, a, "login", queryOf(t, b).Get("login")),
		withQuery(t, b, "state", queryOf(t, a).Get("state")),
		withQuery(t, b, "login", queryOf(t, a).Get("login")),
		withQuery(t, a, "state", strings.ToUpper(queryOf(t, a).Get("state"))+"0"),
		withQuery(t, a, "state", ""),
	} {
		resp, body := h.finish(mixed)
		h.mustGetNothing("mixed", "lina", resp, body)
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", mixed, resp.StatusCode)
		}
	}
	if queryOf(t, a).Has("ticket") {
		swapped := withQuery(t, a, "ticket", queryOf(t, b).Get("ticket"))
		resp, body := h.finish(swapped)
		h.mustGetNothing("another login's ticket", "lina", resp, body)
		resp, body = h.finish(a + "&ticket=" + queryOf(t, b).Get("ticket"))
		h.mustGetNothing("two tickets", "lina", resp, body)
	}
	for address, to := range map[string]string{a: page + "?tab=a", b: page + "?tab=b"} {
		if resp, _ := h.finish(address); !hijackEndsAt(resp, to) {
			t.Errorf("%s: %d %s", to, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	h.mustBe(page, "lina")
}

// Attack: session fixation. Whatever was in the browser before, the login brings a session of its own, and
// what it replaces is worth nothing any more.
func hijackFixation(t *testing.T, w *world, page string) {
	mallory := hijackBrowser(t, w, "zhangwei")
	mallory.signIn(page)
	planted := mallory.session(page)
	for name, value := range map[string]string{"Mallory's session": planted, "junk": "junk", "a cut session": planted[:len(planted)-4]} {
		lina := hijackBrowser(t, w, "lina")
		callback := lina.begin(page)
		lina.jar[hijackHost(page)]["__Host-wechat_session"] = value
		resp, _ := lina.finish(callback)
		if got := sessionOf(resp); got == "" || got == planted || jti(t, got) == jti(t, planted) {
			t.Errorf("%s: the session after the login is not a new one", name)
		}
		lina.mustBe(page, "lina")
	}
	if mallory.known(page) != "" {
		t.Error("the session that was replaced lives on")
	}
}

// Attack: whoever knows a callback's address can have the broker seal an outcome for its login, by leaving
// out the code or changing the state, and send lina there.
func hijackReplayedSeals(t *testing.T, w *world, page string) {
	lina, mallory := hijackBrowser(t, w, "lina"), hijackBrowser(t, w, "mallory")
	callback := lina.begin(page)
	seals := map[string]string{
		"denied":  mallory.atSite(withQuery(t, callback, "code", ""), page),
		"expired": mallory.atSite(withQuery(t, callback, "state", strings.Repeat("0", 32)), page),
	}
	w.sim.Update(func(k *wechattest.Knobs) { k.Faults[wechattest.PathToken] = wechattest.Fault{Errcodes: []int{45011}} })
	seals["unavailable"] = mallory.atSite(withQuery(t, callback, "code", strings.Repeat("Z", 32)), page)
	w.sim.Update(func(k *wechattest.Knobs) { delete(k.Faults, wechattest.PathToken) })
	site := lina.atSite(callback, page)
	for outcome, sealed := range seals {
		if !strings.Contains(sealed, "error="+outcome+"&") {
			t.Fatalf("the broker sealed %s", sealed)
		}
		for _, address := range []string{sealed, withQuery(t, sealed, "error", "ok"), sealed + "&ticket=" + queryOf(t, site).Get("ticket"), sealed + "&code=" + url.QueryEscape(queryOf(t, callback).Get("code"))} {
			stranger := hijackBrowser(t, w, "mallory")
			resp, body := stranger.get(address)
			if sessionOf(resp) != "" || resp.StatusCode/100 == 3 && !queryOf(t, address).Has("ticket") {
				t.Errorf("%s: a stranger got %d\n%.300s", outcome, resp.StatusCode, body)
			}
			if resp, _ := lina.get(address); sessionOf(resp) != "" || resp.StatusCode/100 == 3 {
				t.Errorf("%s: its own browser got %d", outcome, resp.StatusCode)
			}
		}
	}
	if resp, body := lina.finish(site); !hijackEndsAt(resp, page) {
		t.Fatalf("after the seals the login ended with %d\n%.500s", resp.StatusCode, body)
	}
	session := lina.session(page)
	for outcome, sealed := range seals {
		if resp, _ := lina.get(sealed); resp.StatusCode != http.StatusSeeOther || lina.session(page) != session {
			t.Errorf("%s: signed in, she got %d", outcome, resp.StatusCode)
		}
	}
	lina.mustBe(page, "lina")
}

// TestHijackBetweenSites: two sites of one account and one of another on one gateway.
func TestHijackBetweenSites(t *testing.T) {
	w := hijackWorld(t, "")
	all := []string{authPage, shopPage, hijackBlog, hijackClub}
	for _, from := range all {
		for _, to := range all {
			if from != to {
				t.Run("nothing of "+hijackHost(from)+" counts at "+hijackHost(to), func(t *testing.T) { hijackElsewhere(t, w, from, to) })
			}
		}
	}
}

// Attack: Mallory runs one site, or an account, of the gateway. What lina brings there must open no other.
func hijackElsewhere(t *testing.T, w *world, from, to string) {
	lina := hijackBrowser(t, w, "lina")
	fromSite := lina.atSite(lina.begin(from), from)
	mallory := hijackBrowser(t, w, "mallory")
	toSite := mallory.atSite(mallory.begin(to), to)
	moved := hijackOrigin(to) + strings.TrimPrefix(fromSite, hijackOrigin(from))
	cookies := lina.jar[hijackHost(from)]

	// With the cookies of the other host as well: who runs a site can copy them by hand.
	thief := hijackBrowser(t, w, "mallory")
	thief.jar[hijackHost(to)] = cookies
	tries := map[string]string{
		"its callback":                    moved,
		"its login in another's":          withQuery(t, withQuery(t, toSite, "login", queryOf(t, fromSite).Get("login")), "state", queryOf(t, fromSite).Get("state")),
		"its state in another's":          withQuery(t, toSite, "state", queryOf(t, fromSite).Get("state")),
		"another's login in its own":      withQuery(t, moved, "login", queryOf(t, toSite).Get("login")),
		"another's login and state in it": withQuery(t, withQuery(t, moved, "login", queryOf(t, toSite).Get("login")), "state", queryOf(t, toSite).Get("state")),
	}
	for name, address := range tries {
		for _, who := range []*hijacker{thief, mallory} {
			resp, body := who.get(address)
			if next := resp.Header.Get("Location"); strings.HasPrefix(next, hijackOrigin(from)+"/") && hijackHost(to) == hijackHost(authPage) {
				continue // the bound domain's broker sends it home
			}
			if s := sessionOf(resp); s != "" && openIDOf(t, s) == lina.id(from, "lina") || strings.Contains(body, lina.id(from, "lina")) {
				t.Errorf("%s: lina's identity", name)
			}
			if who == thief && sessionOf(resp) != "" {
				t.Errorf("%s: a session by cookies of another site", name)
			}
		}
	}
	if resp, body := lina.finish(fromSite); !hijackEndsAt(resp, from) {
		t.Fatalf("her login was spent: %d\n%.300s", resp.StatusCode, body)
	}
	lina.mustBe(from, "lina")
	thief.jar[hijackHost(to)] = map[string]string{"__Host-wechat_session": lina.session(from)}
	if thief.known(to) != "" {
		t.Error("her session counts there")
	}
}
