package caddymodule

import (
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
)

func init() {
	httpcaddyfile.RegisterDirective("wechat_broker", parseBroker)
	httpcaddyfile.RegisterDirectiveOrder("wechat_broker", httpcaddyfile.Before, "redir")
}

// brokerParser is the directive while it is read.
type brokerParser struct {
	*Broker
	app *App
}

// parseBroker parses the directive wechat_broker. Syntax:
//
//	wechat_broker [<account>...] {              # default: every account whose domain this site is; takes no matcher
//		ticket_ttl <duration>                   # default 60s
//		path       <prefix>                     # default /_wechat; for a bound domain with a path, or a proxy that forwards only one
//		client <id> {                           # a backend that is not a site of this Caddy
//			secret          <secret>            # at least 16 characters; required to redeem, unless public
//			public                              # a client of old: whoever holds the ticket may redeem it
//			return_to       <url-pattern>...    # https://shop.example.org/*: scheme, host and port exact, path may end in *
//			account         <name>...           # default: the broker's
//			scope           <highest scope>     # default snsapi_userinfo
//			ask                                 # the broker shows its login button before a profile request
//			token           <8 hex> <url>       # wxauth V1 request target
//			openid                              # V1 hands the openid back as well
//			profile_ttl     <duration>          # default 24h, for clients with a token
//			reuse                               # a ticket may be redeemed again until it ends
//			raw_state                           # state goes back unencoded (control bytes are refused all the same)
//			fragment_append                     # with "#" in the return address, the pair goes behind it
//			redeem_from     <cidr>...           # on top of the secret
//			pass_code                           # may receive WeChat's own code
//		}
//	}
//
// It takes no matcher, as it answers only what is certainly its own.
func parseBroker(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	h.Next() // the directive's name
	b := newBlock(h.Dispenser, "wechat_broker", "client")
	app, err := configuredApp(h)
	if err != nil {
		return nil, err
	}
	p := &brokerParser{Broker: new(Broker), app: app}
	accounts := setList("wechat_broker [<account>...]", &p.Accounts, unlimited, p.checkArgument)
	if h.CountRemainingArgs() > 0 {
		if err := accounts(h.Dispenser); err != nil {
			return nil, b.place(err)
		}
	}
	if err := b.place(p.checkAccounts()); err != nil {
		return nil, err
	}
	if err := b.read(h.Dispenser, p.options(), nil); err != nil {
		return nil, err
	}
	if err := b.finish(p.checkOptions); err != nil {
		return nil, err
	}
	return h.NewRoute(nil, p.Broker), nil
}

func (p *brokerParser) checkArgument(name string) error {
	if strings.HasPrefix(name, "/") || strings.HasPrefix(name, "@") || strings.HasPrefix(name, "*") {
		return fmt.Errorf("wechat_broker takes no matcher, as it answers only what is its own; remove %q", name)
	}
	return p.app.checkAccount(name)
}

func (p *brokerParser) options() options {
	return options{
		"ticket_ttl": p.readTicketTTL,
		"path":       setText("path <prefix>", &p.Path, checkPath),
		"client":     p.client,
	}
}

func (p *brokerParser) readTicketTTL(d *caddyfile.Dispenser) error {
	if err := setDuration("ticket_ttl <duration>", &p.TicketTTL)(d); err != nil {
		return err
	}
	return p.checkTicketTTL()
}

func (p *brokerParser) client(d *caddyfile.Dispenser) error {
	b := newBlock(d, "client", "return_to", "token", "redeem_from")
	args, err := arguments(d, "client <id> { … }", 1, 1)
	if err != nil {
		return err
	}
	id, c := args[0], new(Client)
	if placeholder(id) {
		return fmt.Errorf("client id %q has a placeholder; write the id itself", id)
	}
	if err := checkClientID(id); err != nil {
		return err
	}
	if p.Clients[id] != nil {
		return fmt.Errorf("client %s is there twice; give each an id of its own", id)
	}
	if p.Clients == nil {
		p.Clients = map[string]*Client{}
	}
	for _, acc := range p.app.Accounts {
		if acc.AppID == id {
			return errAppID(id)
		}
	}
	p.Clients[id] = c
	if err := b.read(d, p.clientOptions(c), nil); err != nil {
		return err
	}
	return p.checkOptions() // of the broker's own options, each is checked where it stands
}

func (p *brokerParser) clientOptions(c *Client) options {
	return options{
		"secret":          setText("secret <secret>", &c.Secret, checkClientSecret),
		"public":          setFlag("public", &c.Public),
		"return_to":       p.checked(setList("return_to <url-pattern>...", &c.ReturnTo, unlimited, checkReturnTo)),
		"account":         setList("account <name>...", &c.Accounts, unlimited, p.checkClientAccount),
		"scope":           setText("scope <highest scope>", &c.Scope, checkScope),
		"ask":             setFlag("ask", &c.Ask),
		"token":           p.checked(c.readToken),
		"openid":          setFlag("openid", &c.OpenID),
		"profile_ttl":     setDuration("profile_ttl <duration>", &c.ProfileTTL),
		"reuse":           setFlag("reuse", &c.Reuse),
		"raw_state":       setFlag("raw_state", &c.RawState),
		"fragment_append": setFlag("fragment_append", &c.FragmentAppend),
		"redeem_from":     setList("redeem_from <cidr>...", &c.RedeemFrom, unlimited, checkNetwork),
		"pass_code":       setFlag("pass_code", &c.PassCode),
	}
}

// checked adds to an option of one client what the other clients say.
func (p *brokerParser) checked(read readOption) readOption {
	return func(d *caddyfile.Dispenser) error {
		if err := read(d); err != nil {
			return err
		}
		return p.checkShared()
	}
}

func (p *brokerParser) checkClientAccount(name string) error {
	if len(p.Accounts) > 0 && !slices.Contains(p.Accounts, name) && !slices.ContainsFunc(append(p.Accounts, name), placeholder) {
		return fmt.Errorf("account %q is not one of this wechat_broker's: %s", name, strings.Join(p.Accounts, ", "))
	}
	return p.app.checkAccount(name)
}

func (c *Client) readToken(d *caddyfile.Dispenser) error {
	args, err := arguments(d, "token <8 hex> <url>", 2, 2)
	if err != nil {
		return err
	}
	token := strings.ToLower(args[0])
	if c.Tokens[token] != "" {
		return fmt.Errorf("token %s is there twice; keep one", token)
	}
	if c.Tokens == nil {
		c.Tokens = map[string]string{}
	}
	c.Tokens[token] = args[1]
	return checkTarget(token, args[1])
}
