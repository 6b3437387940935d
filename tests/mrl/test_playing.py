"""Playing dialogues and playing them again: what was sampled is what is scored, and credit reaches the first write."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mrl.dialogues.dataset import RowSource, read_conversations
from mrl.dialogues.tokenization import encode_dialogues
from mrl.model import MemoryHistory, MemoryState, ReactiveForCausalLM
from mrl.rl.algorithms import PPOConfig
from mrl.rl.collector import in_turn
from mrl.rl.critic import Critic, CriticConfig, judged_turns, read_everything
from mrl.rl.curriculum import Draw, ResetConfig
from mrl.rl.episode_dataset import Environment, vocabulary
from mrl.rl.episode_start import EpisodeStart
from mrl.rl.memory_pool import StatePool
from mrl.rl.replay import log_probs_again, memory_of, reference_loss, replay, said_references
from mrl.rl.rewards import RewardConfig, score
from mrl.rl.rollout import RolloutConfig, play
from mrl.rl.trajectory import NO_TOKEN, Strategy, Trajectory, join_trajectories
from mrl.rl.update import Buffer, ReplayConfig, asked_turns, minibatch_counts, most_telling, policy_loss, prepare
from pipeline.errors import InputError

OPTIONS = RolloutConfig(max_new_tokens=6, temperature=0.8, top_p=0.9)


@pytest.fixture
def environment(episodes, tokenizer) -> Environment:
    rows = read_conversations(RowSource(path=str(episodes), subset="*", split="train"))
    return Environment(encode_dialogues(rows, tokenizer, max_length=24), tokenizer, "rows")


@pytest.fixture
def words(tokenizer, model):
    return vocabulary(tokenizer, model.get_input_embeddings().weight, model.config.answer_token_id)


def batch_of(environment: Environment, steps: int = 3, rows: int = 6):
    chosen = environment.members(steps)[:rows]
    return environment.batch(chosen, steps, list(range(100, 100 + len(chosen))))


def complete(model, environment, words, ppo: PPOConfig, critic: Critic | None = None) -> Trajectory:
    played = play(model, batch_of(environment), OPTIONS, group=ppo.group_size, keep_states=True)
    trajectory = played.trajectory
    found = score(RewardConfig(), words, trajectory)
    trajectory.rewards = found.rewards
    trajectory.terms = {"rewarded": found.rewarded.float(), "exact": found.exact}
    if critic is not None:
        trajectory.values = read_everything(critic, trajectory, played.history, CriticConfig(rows_at_once=5))
    return prepare(trajectory, found.rewarded, ppo)


def test_a_batch_is_the_dialogue_cut_into_what_is_written_asked_and_wanted(environment, tokenizer):
    batch = batch_of(environment)
    row = next(i for i in range(batch.rows) if batch.distance[i].any())
    turn = int(batch.distance[row].nonzero()[0])
    query = tokenizer.decode(batch.query_ids[row, turn][batch.query_mask[row, turn]])
    reference = batch.reference_ids[row, turn][batch.reference_mask[row, turn]].tolist()
    assert query.startswith("[BOS] [Q] what has")
    assert (reference[0], reference[-1]) == (tokenizer.convert_tokens_to_ids("[A]"), tokenizer.eos_token_id)
    assert batch.fact_ids[row, turn, 0, 0].tolist()[0] == reference[1]
    assert (batch.fact_ids[row, 0] == NO_TOKEN).all(), "a statement needs no fact"
    assert batch.first_mask.sum(1).min() > 4


def test_stages_without_dialogues_are_refused(environment):
    assert len(environment.members(2)) > 0
    with pytest.raises(InputError, match="no dialogue has 9 steps"):
        environment.members(9)


@pytest.mark.parametrize("group", [1, 3])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_replay_gives_the_probabilities_that_were_sampled_from(model, environment, group, temperature):
    options = replace(OPTIONS, temperature=temperature, top_k=9)
    played = play(model.eval(), batch_of(environment), options, group=group, keep_states=True)
    trajectory = played.trajectory
    again = replay(model, trajectory, options.sampling())
    ratio = (again.log_probs - trajectory.log_probs[again.scored]).exp()
    torch.testing.assert_close(ratio, torch.ones_like(ratio), atol=1e-5, rtol=0)
    assert len(ratio) == int(trajectory.sampled.sum()) > 20
    torch.testing.assert_close(again.history.slots, played.history.slots, atol=1e-5, rtol=1e-5)
    whole = log_probs_again(model, trajectory, options.sampling(), at_once=2)
    torch.testing.assert_close(whole, trajectory.log_probs, atol=1e-5, rtol=0)


def test_an_answer_depends_on_its_own_dialogue_alone(model, environment):
    batch = batch_of(environment)
    together = play(model.eval(), batch, OPTIONS).trajectory
    alone = play(model, batch.select(slice(2, 3)), OPTIONS).trajectory
    width = alone.answer_ids.shape[-1]
    assert torch.equal(together.answer_ids[2:3, :, :width], alone.answer_ids)


def test_a_group_answers_from_one_memory_and_only_its_first_answer_is_written(model, environment):
    trajectory = play(model.eval(), batch_of(environment), replace(OPTIONS, temperature=3.0), group=4).trajectory
    assert len(trajectory) == 6
    assert trajectory.batch.rows == 24
    grouped = trajectory.writes.unflatten(0, (-1, 4))
    assert (grouped == grouped[:, :1]).all()
    answers = trajectory.answer_ids.unflatten(0, (-1, 4))
    assert (answers != answers[:, :1]).any(), "the others of a group say something else"
    said = trajectory.answer_ids[4, 0][trajectory.answer_mask[4, 0]].tolist()
    written = trajectory.writes[4, 1][trajectory.writes_mask[4, 1]].tolist()
    assert written[-len(said) :] == said


def test_teacher_forcing_writes_the_references(model, environment):
    batch = batch_of(environment)
    trajectory = play(model.eval(), batch, replace(OPTIONS, teacher_forcing=True)).trajectory
    wanted = batch.reference_ids[1, 0][batch.reference_mask[1, 0]].tolist()
    assert trajectory.writes[1, 1][trajectory.writes_mask[1, 1]].tolist()[-len(wanted) :] == wanted


@pytest.mark.parametrize(("bptt_steps", "reaches"), [(None, True), (3, True), (1, False)])
@pytest.mark.parametrize("save_memory", [False, True])
def test_credit_reaches_the_write_that_stored_the_fact(model, environment, bptt_steps, reaches, save_memory):
    trajectory = play(model.eval(), batch_of(environment), OPTIONS).trajectory
    model.config.gate = "linear"
    last = torch.zeros_like(trajectory.turns)
    last[:, -1] = True
    again = replay(model, trajectory, OPTIONS.sampling(), wanted=last, bptt_steps=bptt_steps, save_memory=save_memory)
    again.log_probs.sum().backward()
    # The learned initial memory lies before the first write: a gradient there has come through all three.
    reached = model.model.initial_memory.grad is not None and bool(model.model.initial_memory.grad.abs().sum() > 0)
    assert reached == reaches


def test_saving_memory_changes_nothing_but_memory(model, environment):
    trajectory = play(model.eval(), batch_of(environment), OPTIONS).trajectory
    gradients = []
    for save_memory in (False, True):
        model.zero_grad()
        replay(model, trajectory, OPTIONS.sampling(), save_memory=save_memory).log_probs.sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "impo", "grpo"])
def test_slices_of_a_minibatch_add_up(model, environment, words, algorithm):
    ppo = PPOConfig(algorithm=algorithm, group_size=2, minibatch_episodes=12, kl_coef=0.1, loss_scope="answer")
    config = ReplayConfig(supervised_coef=0.3)
    critic = Critic(model, "memory").eval()
    trajectory = complete(model.eval(), environment, words, ppo, critic)
    trajectory.reference_log_probs = trajectory.log_probs - 0.1 * trajectory.sampled
    judging = CriticConfig(turn_share=0.6)
    assert 0 < int(judged_turns(trajectory, judging).sum()) < int(trajectory.turns.sum())
    counts = minibatch_counts(trajectory, config, judging)
    both = torch.nn.ModuleList([model, critic])

    def gradients(parts: list[Trajectory]) -> list[torch.Tensor]:
        both.zero_grad()
        for part in parts:
            policy_loss(model, critic, part.trim(), counts, ppo, config, OPTIONS.sampling(), judging).loss.backward()
        return [p.grad.clone() for p in both.parameters() if p.grad is not None]

    whole = gradients([trajectory])
    sliced = gradients([trajectory.rows(slice(i, None, 4)) for i in range(4)])
    assert len(whole) == len(sliced) > 20
    for one, two in zip(whole, sliced, strict=True):
        torch.testing.assert_close(one, two, atol=2e-5, rtol=2e-4)


def test_only_turns_that_teach_something_are_scored(model, environment, words):
    ppo = PPOConfig(minibatch_episodes=6)
    trajectory = complete(model.eval(), environment, words, ppo)
    trajectory.advantages = torch.where(trajectory.batch.distance > 0, 1.0, 0.01) * trajectory.turns
    few = ReplayConfig(least_advantage=0.5)
    counts = minibatch_counts(trajectory, few, CriticConfig())
    sums = policy_loss(model, None, trajectory, counts, ppo, few, OPTIONS.sampling(), CriticConfig())
    asked = trajectory.sampled & (trajectory.batch.distance > 0)[..., None]
    assert int(sums.metrics["scored_n"]) == int(asked.sum()) < int(trajectory.sampled.sum())


@pytest.mark.parametrize("kind", ["memory", "frozen_memory", "classic"])
def test_critics_learn_what_they_should_and_never_move_the_memory(model, environment, words, kind):
    critic = Critic(model, kind).eval()
    torch.nn.init.normal_(critic.head[2].weight)
    trajectory = play(model.eval(), batch_of(environment), OPTIONS).trajectory
    history = memory_of(model, trajectory)
    values = critic.values(trajectory, history)
    assert values.shape == trajectory.turns.shape
    values.sum().backward()
    assert all(p.grad is None for p in model.parameters())
    reads = critic.readers is not None and any(p.grad is not None for p in critic.readers.parameters())
    assert reads == (kind == "memory")
    other = critic.values(trajectory, MemoryHistory(history.slots + torch.randn_like(history.slots)))
    assert torch.allclose(values, other) == (kind == "classic")


def test_value_of_a_row_doesnt_depend_on_the_pieces_it_is_read_in(model, environment):
    critic = Critic(model, "memory").eval()
    torch.nn.init.normal_(critic.head[2].weight)
    played = play(model.eval(), batch_of(environment), OPTIONS, group=2, keep_states=True)
    few, many = (
        read_everything(critic, played.trajectory, played.history, CriticConfig(rows_at_once=n)) for n in (1, 1000)
    )
    torch.testing.assert_close(few, many, atol=1e-5, rtol=1e-5)


def test_rows_go_on_from_states_of_their_own_kind(model, environment):
    pool = StatePool(ResetConfig(mode="random", carry="own", pool_size=2), seed=1)
    shape = (2, 4, 32)
    left = torch.arange(3.0).view(1, 3, 1, 1).expand(2, 3, 4, 32)
    pool.put(["cumulative 3", "cumulative 3", "single 3"], MemoryState(left))
    pool.put(["cumulative 3"], MemoryState(left[:, 2:] + 7))
    draw = Draw(3, [0] * 4, [True, False, False, False], "own", False)
    carried, initial = pool.start(draw, ["cumulative 3", "cumulative 3", "long_term 3", "single 3"], shape)
    assert carried.tolist() == [False, True, False, True], "nothing was left by a long_term dialogue"
    assert float(initial.slots[0, 0, 0, 0]) in (1.0, 9.0), "of three states the newest two are kept"
    assert float(initial.slots[0, 1, 0, 0]) == 2.0
    again = StatePool(pool.config, seed=1)
    again.load_state_dict(pool.state_dict())
    one, two = (p.start(draw, ["cumulative 3"] * 4, shape)[1] for p in (pool, again))
    assert torch.equal(one.slots, two.slots)

    batch = batch_of(environment, rows=4)
    initial = torch.randn(2, 2, 4, 32)
    on = torch.tensor([False, True, False, True])
    batch = replace(batch, start=batch.start.carrying(on, MemoryState(initial)))
    trajectory = play(model.eval(), batch, OPTIONS, group=2).trajectory
    torch.testing.assert_close(memory_of(model, trajectory)[0].rows(on).slots, initial)
    torch.testing.assert_close(memory_of(model, trajectory.rows(slice(3, 4)))[0].slots, initial[:, 1:])
    again = replay(model, trajectory, OPTIONS.sampling())
    torch.testing.assert_close(again.log_probs, trajectory.log_probs[again.scored], atol=1e-5, rtol=0)


def test_a_round_dealt_out_to_processes_comes_back_in_its_order(model, environment):
    batch = batch_of(environment, rows=5)
    whole = play(model.eval(), batch, OPTIONS, group=2).trajectory
    parts = [play(model, batch.select(torch.arange(rank, 5, 2)), OPTIONS, group=2).trajectory for rank in (0, 1)]
    back = join_trajectories(parts).rows(in_turn(5, 2))
    assert torch.equal(back.answer_ids, whole.answer_ids)
    assert torch.equal(back.batch.fact_ids, whole.batch.fact_ids)
    torch.testing.assert_close(back.log_probs, whole.log_probs, atol=1e-5, rtol=0)


def test_a_buffer_visits_every_dialogue_and_survives_a_checkpoint(model, environment, words):
    ppo = PPOConfig(minibatch_episodes=4, update_epochs=2, group_size=2)
    trajectory = complete(model.eval(), environment, words, ppo)
    buffer = Buffer()
    buffer.fill(trajectory, ppo, seed=3)
    assert [len(part) for part in buffer.order] == [2, 2, 2, 2, 2, 2]
    assert sorted(np.concatenate(buffer.order[:3])) == list(range(6))
    buffer.next()
    copy = Buffer()
    copy.load_state_dict(buffer.state_dict())
    one, two = buffer.next(), copy.next()
    assert torch.equal(one.answer_ids, two.answer_ids)
    assert one.batch.strategies == two.batch.strategies == (Strategy(),)
    assert copy.drop() == 4
    assert not copy


def test_turns_without_a_reward_move_neither_policy_nor_critic(model, environment, words):
    ppo = PPOConfig(gamma=0.0, normalize_advantages=False, entropy_coef=0.0, minibatch_episodes=6)
    delayed = replace(batch_of(environment), strategies=(Strategy(kind="long_term"),))
    critic = Critic(model.eval(), "memory").eval()
    torch.nn.init.constant_(critic.head[2].bias, 0.7)  # a critic that expects something
    played = play(model, delayed, OPTIONS, keep_states=True)
    trajectory = played.trajectory
    found = score(RewardConfig(), words, trajectory)
    trajectory.rewards = found.rewards
    trajectory.values = read_everything(critic, trajectory, played.history, CriticConfig())
    trajectory = prepare(trajectory, found.rewarded, ppo)
    last = torch.arange(3).expand_as(trajectory.turns) == trajectory.turns.sum(1, keepdim=True) - 1
    assert torch.equal(trajectory.credited, trajectory.turns & last)
    assert torch.equal(judged_turns(trajectory, CriticConfig()), trajectory.credited)
    assert not trajectory.advantages[~last].any()

    def gradient(rows: Trajectory) -> torch.Tensor:
        model.zero_grad()
        counts = minibatch_counts(rows, ReplayConfig(), CriticConfig())
        policy_loss(
            model, critic, rows, counts, ppo, ReplayConfig(), OPTIONS.sampling(), CriticConfig()
        ).loss.backward()
        return model.model.embedding.weight.grad.clone()

    before = gradient(trajectory)
    trajectory.advantages = trajectory.advantages - 9.0 * ~trajectory.credited  # what would be there is never read
    torch.testing.assert_close(gradient(trajectory), before)


@pytest.mark.parametrize("scope", ["token", "answer"])
def test_entropy_is_a_mean_over_what_was_sampled(model, environment, words, scope):
    # 31 times too small elsewhere: divided by the number of tokens twice.
    ppo = PPOConfig(gamma=0.0, entropy_coef=1.0, loss_scope=scope, minibatch_episodes=6)
    trajectory = complete(model.eval(), environment, words, ppo)
    trajectory.advantages.zero_()
    counts = minibatch_counts(trajectory, ReplayConfig(), CriticConfig())
    sums = policy_loss(model, None, trajectory, counts, ppo, ReplayConfig(), OPTIONS.sampling(), CriticConfig())
    again = replay(model, trajectory, OPTIONS.sampling())
    entropy = torch.zeros(again.scored.shape).masked_scatter(again.scored, again.entropy.detach())
    each = entropy.sum(-1) / again.scored.sum(-1).clamp(min=1)
    wanted = again.entropy.mean() if scope == "token" else each[again.scored.any(-1)].mean()
    torch.testing.assert_close(-sums.loss, wanted)


@pytest.mark.parametrize("group", [1, 2])
def test_answers_that_are_their_reference_teach_it_without_a_second_pass(model, environment, words, group, monkeypatch):
    ppo = PPOConfig(gamma=0.0, entropy_coef=0.0, group_size=group, minibatch_episodes=12)
    plain = replace(OPTIONS, temperature=1.0, top_p=1.0)
    played = play(model.eval(), batch_of(environment), plain, group=group)
    trajectory, batch = played.trajectory, played.trajectory.batch
    width = batch.reference_ids.shape[-1]
    same = torch.zeros_like(trajectory.turns)
    same[::2] = True  # these dialogues' answers become the references (of both rows of a group)
    same &= trajectory.turns & (trajectory.answer_mask.sum(-1) <= width)
    for wanted, said in ((batch.reference_ids, trajectory.answer_ids), (batch.reference_mask, trajectory.answer_mask)):
        wanted[same] = F.pad(said, (0, max(0, width - said.shape[-1])))[..., :width][same]
    assert torch.equal(said_references(trajectory) & same, same)
    assert same.any()
    trajectory.rewards = score(RewardConfig(), words, trajectory).rewards
    trajectory = prepare(trajectory, trajectory.turns, ppo)
    trajectory.advantages.zero_()
    config = ReplayConfig(supervised_coef=1.0, supervised_scope="all")
    counts = minibatch_counts(trajectory, config, CriticConfig())
    passes = []
    decode = model.decode
    monkeypatch.setattr(
        model, "decode", lambda ids, *rest, **more: passes.append(len(ids)) or decode(ids, *rest, **more)
    )
    fast = policy_loss(model, None, trajectory, counts, ppo, config, plain.sampling(), CriticConfig())
    leaders = int(trajectory.turns[::group].sum())
    assert passes[1] <= leaders - int(same[::group].sum())
    states = memory_of(model, trajectory)
    slow, tokens = reference_loss(model, trajectory, states, trajectory.turns)
    torch.testing.assert_close(fast.loss, slow / counts["reference_tokens"])
    assert fast.metrics["reference_n"] == tokens == counts["reference_tokens"]


def test_of_turns_without_facts_a_share_is_learnt_whatever_the_slice(model, environment):
    played = play(model.eval(), batch_of(environment), OPTIONS).trajectory.rows(torch.arange(6).repeat(400))
    played.batch.start = EpisodeStart.fresh(torch.arange(2400) * 2**40)
    needed = asked_turns(played, ReplayConfig(supervised_scope="asked"))
    other = played.turns & ~needed
    assert needed.any()
    assert other.any()
    assert torch.equal(asked_turns(played, ReplayConfig(supervised_scope="all")), played.turns)
    config = ReplayConfig(supervised_scope="all", supervised_share=0.3)
    some = asked_turns(played, config)
    assert some[needed].all()
    assert not some[~played.turns].any()
    assert float(some[other].float().mean()) == pytest.approx(0.3, abs=0.04)
    assert torch.equal(asked_turns(played.rows(torch.arange(7, 90)), config), some[7:90])


@pytest.mark.parametrize("group", [1, 2])
def test_updates_are_made_from_the_dialogues_with_the_largest_advantages(model, environment, words, group):
    ppo = PPOConfig(group_size=group, minibatch_episodes=2, keep_fraction=0.5, update_epochs=1)
    trajectory = complete(model.eval(), environment, words, ppo)
    trajectory.advantages = torch.zeros_like(trajectory.advantages)
    trajectory.advantages[[1 * group, 4 * group, 5 * group]] = torch.tensor([[-3.0], [2.0], [1.0]])
    trajectory.credited[0] = False
    trajectory.advantages[0] = 9.0  # counts for nothing
    assert most_telling(trajectory, 0.5).tolist() == [1, 4, 5]
    assert most_telling(trajectory, 0.01).tolist() == [1]
    buffer = Buffer()
    buffer.fill(trajectory, ppo, seed=3)
    assert sorted(i for part in buffer.order for i in part) == [1, 4, 5]


def test_a_single_dialogue_of_a_single_turn_is_enough(model, environment, words):
    ppo = PPOConfig(minibatch_episodes=1)
    played = play(model.eval(), batch_of(environment, steps=1, rows=1), OPTIONS)
    found = score(RewardConfig(), words, played.trajectory)
    played.trajectory.rewards = found.rewards
    trajectory = prepare(played.trajectory, found.rewarded, ppo)
    counts = minibatch_counts(trajectory, ReplayConfig(), CriticConfig())
    sums = policy_loss(model, None, trajectory, counts, ppo, ReplayConfig(), OPTIONS.sampling(), CriticConfig())
    assert sums.loss.isfinite()


def test_greedy_rollouts_are_refused():
    with pytest.raises(ValueError, match="explore nothing"):
        RolloutConfig(temperature=0.0)


def test_replays_ignore_dropout(tokenizer, environment):
    torch.manual_seed(1)
    from mrl.model import ReactiveConfig

    config = ReactiveConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, intermediate_size=48, memory_slots=4,
        max_interaction_length=24, dropout=0.5,
    )  # fmt: skip
    model = ReactiveForCausalLM(config).eval()
    trajectory = play(model, batch_of(environment), OPTIONS).trajectory
    again = replay(model, trajectory, OPTIONS.sampling())
    torch.testing.assert_close(again.log_probs, trajectory.log_probs[again.scored], atol=1e-5, rtol=0)
