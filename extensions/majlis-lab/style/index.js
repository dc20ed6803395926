import css from './base.css';

const style = document.createElement('style');
style.dataset.extension = 'majlis-lab';
style.textContent = css;
document.head.append(style);
