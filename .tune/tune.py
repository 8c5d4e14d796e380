"""Grid on a GPU: python .tune/tune.py FOLDER OUT.json"""

import json, sys, time
from pathlib import Path
from copy import deepcopy

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "chapters" / "data"))
import torch
import real_theory as rt
from dpo_core import load_model
from dpo_core.tabular import Problem, optimal_policy, kl, mean
from dpo_core.steps import dpo_step, sft_step
from dpo_core.training import train

folder, out = sys.argv[1], sys.argv[2]
limit = float(sys.argv[3]) if len(sys.argv) > 3 else 400
cuda = torch.cuda.is_available()
dev = "cuda" if cuda else "cpu"
t0 = time.time()
base = load_model(folder, any_vocabulary=True).to(dev)
start = {k: v.clone() for k, v in base.state_dict().items()}
policy = deepcopy(base)
tr, ho = rt.closed_sets(folder, rt.lists(rt.TRAINED)), rt.closed_sets(folder, rt.lists(rt.HELD_OUT))
for d in (tr, ho):
    for k in ("ids", "mask"):
        d[k] = d[k].to(dev)
rt.ANSWERS = rt.ANSWERS
ref = {n: rt.set_logps(base, d) for n, d in (("tr", tr), ("ho", ho))}


def measure(m, beta):
    r = {}
    for n, d in (("tr", tr), ("ho", ho)):
        lp = rt.set_logps(m, d)
        pin, rin = lp.log_softmax(-1), ref[n].log_softmax(-1)
        opt = optimal_policy(Problem(rin, d["reward"]), beta)
        k0, k1 = kl(rin, opt), kl(pin, opt)
        dm = lp.logsumexp(-1) - ref[n].logsumexp(-1)
        sh = mean(pin, d["reward"])
        so = mean(opt, d["reward"])
        r[n] = dict(
            before=k0.mean().item(),
            after=k1.mean().item(),
            worst=k1.max().item(),
            ratio=(k1.mean() / k0.mean()).item(),
            share_err=(sh - so).abs().mean().item(),
            share=sh.mean().item(),
            share_opt=so.mean().item(),
            share_ref=mean(rin, d["reward"]).mean().item(),
            klref=kl(pin, rin).mean().item(),
            klref_opt=kl(opt, rin).mean().item(),
            dmass=dm.mean().item(),
            dmass_min=dm.min().item(),
            dmass_max=dm.max().item(),
            up=(dm > 0.05).sum().item(),
            down=(dm < -0.05).sum().item(),
        )
    return r


results = []


def save():
    json.dump(
        {
            "seconds": time.time() - t0,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "results": results,
        },
        open(out, "w"),
    )


def closed(kind, beta, rate, epochs, sets, seed=0):
    if time.time() - t0 > limit:
        return
    t = time.time()
    policy.load_state_dict(start)
    for p in policy.parameters():
        p.grad = None
    h = rt.train_sets(policy, tr, kind, beta, rate=rate, epochs=epochs, sets=sets, seed=seed)
    r = dict(
        part="closed",
        kind=kind,
        beta=beta,
        rate=rate,
        epochs=epochs,
        sets=sets,
        seed=seed,
        steps=len(h),
        first=h[0]["loss"],
        last=h[-1]["loss"],
        chosen0=h[0]["logps/chosen"],
        chosen1=h[-1]["logps/chosen"],
        seconds=time.time() - t,
        **measure(policy, beta),
    )
    results.append(r)
    save()
    print(
        f"{kind:12} b{beta} lr{rate:g} ep{epochs} sets{sets} s{seed}: ratio {r['tr']['ratio']:.4f} worst {r['tr']['worst']:.4f} sherr {r['tr']['share_err']:.3f} klref {r['tr']['klref']:.3f}/{r['tr']['klref_opt']:.3f} dmass {r['tr']['dmass']:+.2f} up{r['tr']['up']} down{r['tr']['down']} | held ratio {r['ho']['ratio']:.3f} dmass {r['ho']['dmass']:+.2f} | {r['seconds']:.1f}s",
        flush=True,
    )


quick = "--quick" in sys.argv
if quick:
    rt.OPEN_DRAWS = 4
# open part
oq, oh = rt.questions(rt.QUESTIONS), rt.questions(rt.OPEN_HELD_OUT)
if quick:
    oq, oh = oq[:2], oh[:1]


def open_eval(m, seed, n):
    a, b = rt.own_answers(m, folder, oq, n, seed), rt.own_answers(m, folder, oh, n, seed + 1)
    return a, [c / n for c in rt.counts(a)], [c / n for c in rt.counts(b)]


N = 4 if quick else 512
answers, p, ph = open_eval(base, 10, N)
small = [a[: rt.OPEN_DRAWS] for a in answers]
print("open reference", p, ph, time.time() - t0, flush=True)


def free(kind, beta, rate, epochs, draws):
    if time.time() - t0 > limit:
        return
    t = time.time()
    policy.load_state_dict(start)
    ids, mask, wins = (
        x.to(dev) for x in rt.open_pairs(folder, oq, [a[:draws] for a in answers], 0)
    )
    if quick:
        B = 2
    else:
        B = rt.OPEN_BATCH
    steps = max(1, len(ids) * epochs // B)
    ids, mask, wins = ids.cpu(), mask.cpu(), wins.cpu()
    if kind == "dpo":
        h = train(
            policy,
            rt.pair_batches(policy, ids, mask, B, wins),
            dpo_step(beta),
            rt.loop(steps, rate),
            compile=False,
            progress=False,
        )
    else:
        h = train(
            policy,
            rt.imitation_rows(ids, mask, wins, B),
            sft_step,
            rt.loop(steps, rate),
            compile=False,
            progress=False,
        )
    a, q, qh = open_eval(policy, 20, 4 if quick else 256)
    e = torch.tensor(p) * 2.718281828 ** (1 / beta)
    pred = e / (e + 1 - torch.tensor(p))
    e = torch.tensor(ph) * 2.718281828 ** (1 / beta)
    predh = e / (e + 1 - torch.tensor(ph))
    r = dict(
        part="open",
        kind=kind,
        beta=beta,
        rate=rate,
        epochs=epochs,
        draws=draws,
        steps=steps,
        p=p,
        q=q,
        ph=ph,
        qh=qh,
        pred=pred.tolist(),
        predh=predh.tolist(),
        first=h[0]["loss"],
        last=sum(x["loss"] for x in h[-5:]) / 5,
        seconds=time.time() - t,
    )
    results.append(r)
    save()
    print(
        f"open {kind} b{beta} lr{rate:g} ep{epochs} draws{draws}: p {sum(p) / len(p):.3f} pred {pred.mean():.3f} got {sum(q) / len(q):.3f} err {(pred - torch.tensor(q)).abs().mean():.3f} | held {sum(ph) / len(ph):.3f} pred {predh.mean():.3f} got {sum(qh) / len(qh):.3f} {r['seconds']:.0f}s",
        flush=True,
    )
    tk = rt.tokenizer(folder)
    print("   ", [tk.decode(x) for x in a[0][:3]])


if quick:
    closed("soft", 0.5, 1e-5, 1, 16)
    free("dpo", 0.5, 1e-5, 1, 4)
    free("imitation", 0.5, 1e-5, 1, 4)
    sys.exit()
for rate in (5e-6, 1e-5, 2e-5, 4e-5):
    for sets, epochs in ((8, 12), (16, 20), (4, 8)):
        closed("soft", 0.5, rate, epochs, sets)
        closed("soft", 0.25, rate, epochs, sets)
for rate in (3e-6, 1e-5, 3e-5):
    free("dpo", 0.5, rate, 1, 64)
free("dpo", 0.5, 1e-5, 2, 64)
free("dpo", 0.5, 1e-5, 1, 512)
ok = sorted(
    (r for r in results if r["part"] == "closed" and r["sets"] == 8), key=lambda r: r["tr"]["ratio"]
)
rate = ok[0]["rate"]
for kind in ("soft", "sampled", "deterministic", "imitation"):
    for beta in (2.0, 1.0, 0.5, 0.25) if kind != "imitation" else (0.5,):
        closed(kind, beta, rate, 12, 8)
for seed in (1, 2):
    closed("soft", 0.5, rate, 12, 8, seed)
    closed("sampled", 0.5, rate, 12, 8, seed)
free("dpo", 1.0, 1e-5, 1, 64)
free("imitation", 0.5, 1e-5, 1, 64)
print("done", time.time() - t0)
