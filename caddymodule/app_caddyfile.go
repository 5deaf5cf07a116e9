package caddymodule

import (
	"cmp"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/caddy-wechat/caddy-wechat/wechat"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("wechat", parseApp)
}

// appParser is the global option while it is read.
type appParser struct {
	*App
	later error // the first part that is not available yet, of those that stand in blocks of their own
}

// parseApp parses the global option wechat. Syntax:
//
//	wechat {
//		account [<name>] {                          # default name: "default"; several may be given
//			app_id      <id>
//			app_secret  <secret>
//			kind        service|website             # default service; website (later) = open platform, QR page for desktops
//			scope       snsapi_base|snsapi_userinfo # default snsapi_base (silent, openid only)
//			lang        zh_CN|zh_TW|en              # of the profile; default zh_CN
//			domain      <host>|<origin> [<host>|<origin>]  # the bound domain(s); default: each site's own host
//			test                                    # a test account or a stand-in for WeChat: domain may be http, an address, with a port
//			verify_file MP_verify_<16>.txt|WW_verify_<16>.txt|<name>.txt [<content>]   # may repeat; default content: the 16 characters; <name>.txt needs its content
//			timeout     <duration>                  # one WeChat API call; default 5s
//			open_url    <url>                       # default https://open.weixin.qq.com
//			api_url     <url>                       # default https://api.weixin.qq.com
//			broker      <url> <client-id> <secret>  # instead of app_secret: log in through another gateway's broker
//		}
//		store memory [<size>]                       # default: embedded, nothing to install; 64MiB
//		store redis <address>... {                  # many gateways, one state; single, Sentinel or Cluster
//			username    <name>
//			password    <secret>
//			db          <n>
//			tls
//			key_prefix  <text>
//			master_name <name>
//		}
//		session_key {
//			algorithm HS256|EdDSA|ES256             # default HS256; the others publish their public keys
//			secret    <current> [<old>...]          # HS256, at least 32 bytes each, used as written; without it keys are generated and kept in Caddy's storage
//			rotate    <duration>                    # default 720h; old keys verify until their last token has ended
//		}
//		cache <size>                                # how much memory verified sessions may take; default 64MiB
//		debug_page <secret>                         # (later)
//	}
func parseApp(d *caddyfile.Dispenser, existing any) (any, error) {
	d.Next() // the option's name
	if existing != nil {
		return nil, d.Err("doubled option wechat; one of them holds all accounts")
	}
	p := &appParser{App: &App{Accounts: map[string]*Account{}}}
	b := newBlock(d, "wechat", "account")
	if _, err := arguments(d, "wechat { account { … } }", 0, 0); err != nil {
		return nil, b.place(err)
	}
	if err := b.read(d, p.options(), p.available); err != nil {
		return nil, err
	}
	if err := b.finish(p.check); err != nil {
		return nil, err
	}
	return httpcaddyfile.App{Name: "wechat", Value: caddyconfig.JSON(p.App, nil)}, nil
}

func (p *appParser) options() options {
	return options{
		"account":     p.account,
		"store":       p.store,
		"session_key": p.sessionKey,
		"cache":       setSize("cache <size>", &p.Cache, minCache),
		"debug_page":  setText("debug_page <secret>", &p.DebugPage, nil),
	}
}

// available names the part of the option that comes with a later version by its own line where it has one.
func (p *appParser) available() error {
	if p.later != nil {
		return p.later
	}
	return p.App.available()
}

func (p *appParser) account(d *caddyfile.Dispenser) error {
	acc, name := new(Account), defaultAccount
	b := newBlock(d, "account", "verify_file")
	args, err := arguments(d, "account [<name>] { … }", 0, 1)
	if err != nil {
		return err
	}
	if len(args) > 0 {
		name = args[0]
	}
	if err := checkAccountName(name); err != nil {
		return err
	}
	if p.Accounts[name] != nil {
		return fmt.Errorf("account %s is there twice; give each a name of its own: account <name> { … }", name)
	}
	if err := b.read(d, acc.options(), acc.available); err != nil {
		return err
	}
	p.later = cmp.Or(p.later, b.later)
	p.Accounts[name] = acc
	return firstError(
		func() error { return b.place(acc.checkDomains(), "domain") },
		func() error { return b.place(acc.checkBesideBroker(), acc.besideBroker()) },
		func() error { return b.place(acc.check(), "broker") },
	)
}

func (a *Account) options() options {
	return options{
		"app_id":      setText("app_id <id>", &a.AppID, checkAppID),
		"app_secret":  setText("app_secret <secret>", &a.AppSecret, nil),
		"kind":        setWord("kind", &a.Kind, kindService, kindWebsite),
		"scope":       setWord("scope", &a.Scope, wechat.ScopeBase, wechat.ScopeUserInfo),
		"lang":        setWord("lang", &a.Lang, "zh_CN", "zh_TW", "en"),
		"domain":      setList("domain <host>|<origin> [<host>|<origin>]", &a.Domains, unlimited, nil), // checked when `test` is known
		"test":        setFlag("test", &a.Test),
		"verify_file": a.readVerifyFile,
		"timeout":     setDuration("timeout <duration>", &a.Timeout),
		"open_url":    setText("open_url <url>", &a.OpenURL, func(s string) error { return checkURL("open_url", s) }),
		"api_url":     setText("api_url <url>", &a.APIURL, func(s string) error { return checkURL("api_url", s) }),
		"broker":      a.readBroker,
	}
}

func (a *Account) readVerifyFile(d *caddyfile.Dispenser) error {
	args, err := arguments(d, "verify_file <name>.txt [<content>]", 1, 2)
	if err != nil {
		return err
	}
	file := VerifyFile{Name: args[0]}
	if len(args) > 1 {
		file.Content = args[1]
	}
	a.VerifyFiles = append(a.VerifyFiles, file)
	return a.checkVerifyFiles()
}

func (a *Account) readBroker(d *caddyfile.Dispenser) error {
	args, err := arguments(d, "broker <url> <client-id> <secret>", 3, 3)
	if err != nil {
		return err
	}
	a.Broker = &AccountBroker{URL: args[0], ClientID: args[1], ClientSecret: args[2]} // checked when `test` is known
	return nil
}

func (p *appParser) sessionKey(d *caddyfile.Dispenser) error {
	key := new(SessionKey)
	p.SessionKey = key
	b := newBlock(d, "session_key")
	if _, err := arguments(d, "session_key { … }", 0, 0); err != nil {
		return err
	}
	err := b.read(d, options{
		"algorithm": setWord("algorithm", &key.Algorithm, "HS256", "EdDSA", "ES256"),
		"secret":    setList("secret <current> [<old>...]", &key.Secrets, unlimited, checkSessionSecret),
		"rotate":    setDuration("rotate <duration>", &key.Rotate),
	}, nil)
	if err != nil {
		return err
	}
	return firstError(
		func() error { return b.place(key.checkRotate(), "rotate") },
		func() error { return b.place(key.check(), "secret") },
	)
}
