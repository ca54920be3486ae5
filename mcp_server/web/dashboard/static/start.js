// The form that starts a build of a known project.

import { post } from './api.js';
import { el, may, news, projectName } from './dom.js';

export function startForm(projects, session, chosen = '') {
  const usable = projects.filter((one) => one.status === 'active');
  const choice = el('select', { id: 'start-project' }, ...usable.map((one) => el('option', { value: one.id, selected: one.id === chosen }, projectName(one, usable))));
  const target = el('input', { size: 9, placeholder: 'its own', maxlength: 40 });
  const branch = el('input', { size: 14, placeholder: 'as it is', maxlength: 200 });
  const qemu = el('input', { type: 'checkbox', checked: true });
  const flash = el('input', { type: 'checkbox', disabled: !may(session, 'flash') });
  const said = el('p', { class: 'problem', role: 'alert' });
  const button = el('button', { type: 'submit', class: 'main' }, 'Start build');
  const send = async (event) => {
    event.preventDefault();
    said.textContent = '';
    button.disabled = true;
    try {
      const asked = { trigger: 'manual', qemu: qemu.checked, flash: flash.checked };
      if (target.value.trim()) asked.target = target.value.trim();
      if (branch.value.trim()) asked.branch = branch.value.trim();
      const made = await post(`/api/projects/${encodeURIComponent(choice.value)}/build`, asked);
      news(`build ${made.build_id} is ${made.status}`);
      location.hash = `#/build/${made.build_id}`;
    } catch (error) {
      said.textContent = error.message;
    }
    button.disabled = false;
  };
  return el('details', { class: 'start' }, el('summary', null, 'Start a build'), el('form', { onsubmit: send },
    el('div', { class: 'bar' }, el('label', null, 'Project', choice), el('label', null, 'Target', target), el('label', null, 'Branch', branch),
      el('label', null, qemu, 'in the emulator'), el('label', null, flash, 'flash the board'), button), said));
}
