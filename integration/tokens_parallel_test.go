package integration

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestTokensOfManyAtOnce: fifty people at each of two sites, in no order, on connections that they share
// and over a cache that both sites share. Everybody is told apart from everybody else.
func TestTokensOfManyAtOnce(t *testing.T) {
	w := newTokensSites(t, tokensKeyKinds[0].option, "")
	k := tokensKeysOf(t, w.gateway, w.login(t, "https://"+tokensShop+"/member/", "lina"))
	type person struct{ site, openID, token string }
	var people []person
	for i := range 50 {
		for _, site := range []string{tokensShop, tokensBlog} {
			id := fmt.Sprintf("oUser%02d_%.4s", i, site)
			people = append(people, person{site, id, k.session(t, newTokensSession("https://"+site, id))})
		}
	}
	seed := uint64(time.Now().UnixNano())
	c := w.client()
	var wg sync.WaitGroup
	for worker := range 8 {
		order := rand.New(rand.NewPCG(seed, uint64(worker)))
		wg.Go(func() {
			for range 250 {
				p, site := people[order.IntN(len(people))], []string{tokensShop, tokensBlog}[order.IntN(2)]
				path, want := []string{"/member/", "/open/x"}[order.IntN(2)], ""
				if site == p.site {
					want = p.openID
				}
				resp, body := get(t, c, "https://"+site+path, pageHeader(holding(p.token)))
				a := newTokensAnswer(resp, body)
				through := want != "" || path == "/open/x"
				if (a.upstream != nil) != through || through && a.who(t) != want || a.status >= 500 {
					t.Errorf("seed %d: %s of %s at %s%s: %d %.300s", seed, p.openID, p.site, site, path, a.status, body)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A session that was ended stays so, though it was remembered as verified,
// whatever token of it comes, and after a reload.
func tokensOfAnEndedSession(t *testing.T, w *tokensSites, keys string) {
	page := "https://" + tokensShop + "/member/"
	e := w.edge(t, tokensShop)
	lina := w.sim.OpenID(appID, "lina")
	ended := w.login(t, page, "lina")
	k := tokensKeysOf(t, w.gateway, ended)
	for range 3 {
		e.judge(t, tokensShop, tokensCookie(ended), lina)
	}
	renewed := newTokensSession("https://"+tokensShop, lina)
	renewed.Jti = jti(t, ended)
	before := k.session(t, renewed)
	e.judge(t, tokensShop, tokensCookie(before), lina)
	logout(t, w.client(), page, ended)
	renewed.Iat, renewed.Exp = renewed.Iat+1, renewed.Exp+1
	after, next := k.session(t, renewed), w.login(t, page, "lina")
	elsewhere := renewed
	elsewhere.Aud = "https://" + tokensBlog
	check := func(t *testing.T) {
		for _, token := range []string{ended, before, after} {
			e.judge(t, tokensShop, tokensCookie(token), tokensNobody)
			e.judge(t, tokensShop, tokensCookie(next+"; __Host-wechat_session="+token), lina)
		}
		e.judge(t, tokensShop, tokensCookie(next), lina)
		w.edge(t, tokensBlog).judge(t, tokensBlog, tokensCookie(k.session(t, elsewhere)), tokensNobody)
		a := e.get(t, tokensShop, "/_wechat/userinfo", tokensCookie(ended))
		if a.status != http.StatusUnauthorized {
			t.Errorf("userinfo: %d", a.status)
		}
	}
	t.Run("at once", check)
	w.rekey(t, keys)
	t.Run("after a reload", check)
}
