import torch

from tergan_core.discriminator import Discriminator


def test_it_answers_three_questions_about_each_face():
    verdict = Discriminator(expressions=7, identities=5)(torch.rand(4, 3, 32, 32))
    assert verdict.realness.shape == (4,)
    assert verdict.expression.shape == (4, 7)
    assert verdict.identity.shape == (4, 5)
    assert [tuple(part.shape[1:]) for part in verdict.maps] == [(32, 16, 16), (64, 8, 8), (96, 4, 4), (128, 2, 2)]


def test_it_learns_to_tell_two_kinds_of_picture_apart():
    torch.manual_seed(0)
    critic = Discriminator(expressions=2, identities=2, widths=(8, 16))
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
    real, fake = torch.rand(8, 3, 32, 32) * 0.5 + 0.5, torch.rand(8, 3, 32, 32) * 0.5
    for _ in range(20):
        loss = torch.nn.functional.softplus(-critic(real).realness).mean()
        loss = loss + torch.nn.functional.softplus(critic(fake).realness).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (critic(real).realness > 0).all() and (critic(fake).realness < 0).all()
